// Package dialog plays written conversations against a server: the test of a
// line protocol is the conversation itself, in testdata/NAME.dialog.
//
// The first line is a comment that cites the rule under test. Then, a step a
// line, in order:
//
//	# RFC 1939 §5: DELE takes effect at QUIT.
//	given INBOX: 3 messages      handed to Runner.Given
//	C: RETR 1                    sent with CRLF
//	C- abc                       sent without a line end
//	C* 4000 xy                   4,000 octets of "xyxyxy…", without a line end
//	S: +OK * octets              a line that the server must send
//	S: *...                      any number of lines, up to one that the next S: matches
//	S* 342                       342 octets of whatever content
//	starttls                     TLS from here on (Runner.TLS)
//	close                        the client hangs up
//	eof                          the server must have hung up, and said nothing more
//	do stop the directory        handed to Runner.Do
//
// Several clients are C1:/S1:, C2:/S2: and so on, and "starttls C2", "close C2",
// "eof C2", "connect C2"; C: and S: without a number are client 1. A client is
// connected when it is first mentioned.
//
// In what a client sends, \r \n \t \0 \xNN \\ \{ stand for octets; any other
// backslash stands for itself, so that \Seen needs no care. {name} is a value
// captured before, and {base64:\0alice\0secret} is what SASL sends.
//
// In what the server must send, * stands for any octets of the line, {name}
// captures the shortest text that fits (IMAP's {342} and {342+} are themselves,
// since a name begins with a letter), or must be equal if the name has a value
// already. The escapes are those of the client, and \* is an asterisk. A line
// ends with CRLF; of one that ends with a bare LF, the LF is part of the text and
// must be asked for with \n.
//
// # Concurrency
//
// What a server sends is collected by one goroutine per client, so that
// pipelined commands do not block on a net.Pipe. It works within a
// testing/synctest bubble too.
package dialog
