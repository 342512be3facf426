package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/message"

	"github.com/emersion/go-smtp"
	"github.com/spf13/cobra"
)

// Exit codes of sysexits.h, by which scripts know what to do.
const (
	exUsage       = 64
	exDataErr     = 65
	exNoUser      = 67
	exUnavailable = 69
	exIOErr       = 74
	exTempFail    = 75
	exNoPerm      = 77
	exConfig      = 78
)

// sendmailCommand is `dirpost sendmail`, for where no link of that name exists.
func sendmailCommand(std streams) *cobra.Command {
	return &cobra.Command{
		Use: "sendmail [-t] [-i] [-f SENDER] [-F NAME] [RECIPIENT…]", Short: "Take a message from standard input, as sendmail does",
		Long: `Sendmail gives a message to the node on this machine, through its local socket. It
is what cron and scripts call; the program is sendmail too when it is called by
that name.

  -t         recipients are those of To, Cc and Bcc as well
  -i, -oi    a line that is a dot does not end the message
  -f, -r     envelope sender; others than your own need root
  -F NAME    your name, for a message without From
  -N WHEN    delivery reports: never, or of failure, delay, success
  -R, -V     what a report returns (full, hdrs), and its envelope id
  -bs        speak SMTP on standard input and output
  -bp        show the queue (mailq)
  -q, -bi    nothing: the node works on the queue, aliases live in the directory
  -C FILE    configuration file

Nothing is sent unless the exit status is 0; 75 says: try again later.`,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
				return c.Help()
			}
			if code := sendmail(c.Context(), append([]string{"sendmail"}, args...), std); code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
}

// sendmailOptions are what the command line says.
type sendmailOptions struct {
	mode       string // "m" deliver, "s" SMTP, "p" queue, "q" run it, "i" aliases
	config     string
	sender     *string // -f; nil: the user
	name       string  // -F
	fromHeader bool    // -t
	ignoreDots bool    // -i
	notify     []smtp.DSNNotify
	ret        smtp.DSNReturn
	envID      string
	recipients []string
}

// parseSendmail reads a command line as sendmail does: options are one letter,
// their values may follow at once.
func parseSendmail(args []string) (sendmailOptions, error) {
	o := sendmailOptions{mode: "m", config: os.Getenv("DIRPOST_CONFIG")}
	if o.config == "" {
		o.config = defaultConfig
	}
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			o.recipients = append(o.recipients, args[i+1:]...)
			break
		}
		if len(a) < 2 || a[0] != '-' {
			o.recipients = append(o.recipients, a)
			continue
		}
		letter, value := a[1], a[2:]
		if strings.IndexByte("fFrCNRVBhopXLO", letter) >= 0 && value == "" {
			if i++; i == len(args) {
				return o, fmt.Errorf("option -%c needs a value", letter)
			}
			value = args[i]
		}
		if err := o.set(letter, value); err != nil {
			return o, err
		}
	}
	return o, nil
}

// set takes one option.
func (o *sendmailOptions) set(letter byte, value string) error {
	switch letter {
	case 't':
		o.fromHeader = true
		if strings.Contains(value, "i") { // -ti
			o.ignoreDots = true
		}
	case 'i':
		o.ignoreDots = true
		if strings.Contains(value, "t") {
			o.fromHeader = true
		}
	case 'o':
		if value == "i" {
			o.ignoreDots = true
		} // others are about daemons that we do not have: -odb, -oem, …
	case 'f', 'r':
		v := strings.TrimSuffix(strings.TrimPrefix(value, "<"), ">")
		o.sender = &v
	case 'F':
		o.name = value
	case 'C':
		o.config = value
	case 'N':
		for _, w := range strings.Split(strings.ToUpper(value), ",") {
			switch n := smtp.DSNNotify(w); n {
			case smtp.DSNNotifyNever, smtp.DSNNotifyFailure, smtp.DSNNotifyDelayed, smtp.DSNNotifySuccess:
				o.notify = append(o.notify, n)
			default:
				return fmt.Errorf("option -N: %q is none of never, failure, delay, success", w)
			}
		}
	case 'R':
		o.ret = smtp.DSNReturn(strings.ToUpper(value))
		if o.ret != smtp.DSNReturnFull && o.ret != smtp.DSNReturnHeaders {
			return fmt.Errorf("option -R: %q is neither full nor hdrs", value)
		}
	case 'V':
		o.envID = value
	case 'b':
		switch value {
		case "m", "s", "p", "i":
			o.mode = value
		default:
			return fmt.Errorf("option -b%s is not known here; 'dirpost serve' is the daemon", value)
		}
	case 'q':
		o.mode = "q"
	case 'B', 'h', 'p', 'X', 'L', 'O', 'v', 'm', 'n', 'G', 'U', 'A', 'e', 'd':
		// Body type, hop count, protocol and the like: we see for ourselves.
	default:
		return fmt.Errorf("option -%c is not known", letter)
	}
	return nil
}

// sendmail is the whole command; args[0] is the name it was called by.
func sendmail(ctx context.Context, args []string, std streams) int {
	name := args[0][strings.LastIndexByte(args[0], '/')+1:]
	if name == "newaliases" {
		return 0 // aliases live in the directory
	}
	o, err := parseSendmail(args[1:])
	if err != nil {
		fmt.Fprintf(std.err, "%s: %v\n", name, err)
		return exUsage
	}
	if name == "mailq" {
		o.mode = "p"
	}
	switch o.mode {
	case "q", "i":
		return 0 // the queue is worked on by the node, aliases live in the directory
	case "p":
		return mailq(ctx, o.config, std)
	case "s":
		err = o.relaySMTP(ctx, std)
	default:
		err = o.deliver(ctx, std.in)
	}
	if err != nil {
		fmt.Fprintf(std.err, "%s: %v\n", name, err)
		return sendmailCode(err)
	}
	return 0
}

// usageError is a mistake of the caller.
type usageError struct{ error }

// sendmailCode is the exit code for an error.
func sendmailCode(err error) int {
	var usage usageError
	var reply *smtp.SMTPError
	switch {
	case errors.As(err, &usage):
		return exUsage
	case errors.As(err, &reply) && reply.Temporary():
		return exTempFail
	case errors.As(err, &reply) && reply.EnhancedCode[1] == 1:
		return exNoUser
	case errors.As(err, &reply) && reply.Code == 553, errors.As(err, &reply) && reply.EnhancedCode[1] == 7:
		return exNoPerm
	case errors.As(err, &reply) && reply.EnhancedCode[1] == 6:
		return exDataErr
	case errors.As(err, &reply):
		return exUnavailable
	case errors.Is(err, errNoNode), errors.Is(err, errLostNode):
		return exTempFail
	case errors.Is(err, errConfig):
		return exConfig
	}
	return exIOErr
}

var (
	errNoNode = errors.New("the mail server on this machine does not answer, nothing was sent")
	// errLostNode is no reason to give up: a message that comes again is recognised.
	errLostNode = errors.New("the mail server on this machine ended the connection before it took the message")
	errConfig   = errors.New("configuration")
)

// nodeConn tells trouble with the node from trouble with our input.
type nodeConn struct{ net.Conn }

// Read implements net.Conn.
func (c nodeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, lost(err)
}

// Write implements net.Conn.
func (c nodeConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, lost(err)
}

func lost(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errLostNode, err)
}

// settings reads what the command needs of the configuration: it holds no
// secret, so everybody may read it. Without it the default socket is tried.
func (o *sendmailOptions) settings() (socket, domain string, err error) {
	b, err := os.ReadFile(o.config)
	if err != nil && o.config == defaultConfig {
		return defaults().Server.Socket, "localhost", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", errConfig, err)
	}
	f, err := parseConfig(b)
	if err != nil {
		return "", "", fmt.Errorf("%w %s: %w", errConfig, o.config, err)
	}
	return f.Server.Socket, f.Domains.Local[0], nil
}

// connect reaches the node's socket.
func connect(ctx context.Context, socket string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoNode, err)
	}
	return conn, nil
}

// relaySMTP connects standard input and output with the node.
func (o *sendmailOptions) relaySMTP(ctx context.Context, std streams) error {
	socket, _, err := o.settings()
	if err != nil {
		return err
	}
	conn, err := connect(ctx, socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	// The server speaks first, and takes one that does not wait for a spammer.
	greeting := make([]byte, 4096)
	n, err := conn.Read(greeting)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoNode, err)
	}
	if _, err := std.out.Write(greeting[:n]); err != nil {
		return err
	}
	go func() {
		// Its errors are those of the answer, or the end of input. Programs write
		// lines as pipes have them.
		_, _ = io.Copy(message.NewCanonicalWriter(conn), std.in)
		_ = conn.(*net.UnixConn).CloseWrite()
	}()
	_, err = io.Copy(std.out, conn)
	return err
}

// deliver reads a message and hands it to the node. All recipients get it or
// none: who calls us has no other way to know than the exit code.
func (o *sendmailOptions) deliver(ctx context.Context, in io.Reader) error {
	if !o.fromHeader && len(o.recipients) == 0 {
		return usageError{errors.New("no recipients: name them, or use -t")}
	}
	socket, domain, err := o.settings()
	if err != nil {
		return err
	}
	r := bufio.NewReader(in)
	var body io.Reader = r
	if !o.ignoreDots {
		body = &dotReader{r: r}
		r = bufio.NewReader(body)
		body = r
	}
	header, err := readHeader(r)
	if err != nil {
		return err
	}
	from, err := o.from(domain)
	if err != nil {
		return err
	}
	rcpts, err := o.rcpts(header, domain)
	if err != nil {
		return err
	}
	if o.name != "" && !header.Has("From") {
		if err := header.Prepend("From", mime.QEncoding.Encode("utf-8", o.name)+" <"+from+">"); err != nil {
			return usageError{err}
		}
	}
	conn, err := connect(ctx, socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	return o.send(conn, from, rcpts, header, body)
}

// from is the envelope sender.
func (o *sendmailOptions) from(domain string) (string, error) {
	if o.sender == nil {
		u, err := user.LookupId(strconv.Itoa(os.Getuid()))
		if err != nil {
			return "", err
		}
		return u.Username + "@" + domain, nil
	}
	if *o.sender == "" {
		return "", nil
	}
	return qualify(*o.sender, domain)
}

// qualify gives a bare name our domain.
func qualify(address, domain string) (string, error) {
	if !strings.Contains(address, "@") {
		address += "@" + domain
	}
	a, err := envelope.ParseAddress(address)
	if err != nil {
		return "", usageError{fmt.Errorf("%s: %w", address, err)}
	}
	return a.String(), nil
}

// rcpts are the recipients of the command line, and with -t those of the header.
func (o *sendmailOptions) rcpts(h message.Header, domain string) ([]string, error) {
	var all []string
	seen := make(map[string]bool)
	add := func(a string) {
		if !seen[a] {
			seen[a] = true
			all = append(all, a)
		}
	}
	for _, r := range o.recipients {
		// Several in one argument, as sendmail has it.
		for _, one := range strings.FieldsFunc(r, func(c rune) bool { return c == ',' || c == ' ' }) {
			a, err := qualify(strings.Trim(one, "<>"), domain)
			if err != nil {
				return nil, err
			}
			add(a)
		}
	}
	if o.fromHeader {
		names := []string{"To", "Cc", "Bcc"}
		if h.Has("Resent-To") || h.Has("Resent-Cc") || h.Has("Resent-Bcc") {
			names = []string{"Resent-To", "Resent-Cc", "Resent-Bcc"}
		}
		for _, name := range names {
			for _, a := range message.AddressList(h, name) {
				add(a.String())
			}
		}
	}
	if len(all) == 0 {
		return nil, usageError{errors.New("the message names no recipients")}
	}
	return all, nil
}

// send speaks SMTP with the node.
func (o *sendmailOptions) send(conn net.Conn, from string, rcpts []string, h message.Header, body io.Reader) error {
	c := smtp.NewClient(nodeConn{conn})
	c.SubmissionTimeout = 10 * time.Minute
	utf8 := !isASCII(from)
	for _, r := range rcpts {
		utf8 = utf8 || !isASCII(r)
	}
	if err := c.Mail(from, &smtp.MailOptions{UTF8: utf8, Return: o.ret, EnvelopeID: o.envID}); err != nil {
		return fmt.Errorf("sender %s: %w", from, err)
	}
	for _, r := range rcpts {
		if err := c.Rcpt(r, &smtp.RcptOptions{Notify: o.notify}); err != nil {
			return fmt.Errorf("recipient %s: %w; nothing was sent", r, err)
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	canonical := message.NewCanonicalWriter(w)
	if _, err := canonical.Write(h.Bytes()); err != nil {
		return err
	}
	if _, err := io.Copy(canonical, body); err != nil {
		return err
	}
	if err := errors.Join(canonical.Close(), w.Close()); err != nil {
		return err
	}
	_ = c.Quit() // it has the message, whatever it says now
	return nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 0x7f }) < 0
}
