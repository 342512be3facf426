package remote

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/internal/testenv"
	"dirpost/mta/queue"
	"dirpost/mta/route"

	"github.com/emersion/go-smtp"
)

func newTransport(t testing.TB, c Config) *Transport {
	t.Helper()
	if c.Hostname == "" {
		c.Hostname = "mail.us.example"
	}
	tr, err := New(c, blob.New(nil), slog.New(slog.DiscardHandler)) // bodies of most tests are inline
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return tr
}

// to is the route to servers, in this order.
func to(t testing.TB, addrs ...string) *route.Route {
	t.Helper()
	rt := &route.Route{Kind: route.ByMX, Name: strings.Join(addrs, ",")}
	for i, a := range addrs {
		rt.Hops = append(rt.Hops, route.Hop{Host: fmt.Sprintf("mx%d.next.example", i+1), Addr: netip.MustParseAddrPort(a)})
	}
	return rt
}

func address(t testing.TB, s string) envelope.Address {
	t.Helper()
	a, err := envelope.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

func note(t testing.TB, body string) *queue.Message {
	return &queue.Message{
		QueueID: 1, ReversePath: envelope.ReversePathOf(address(t, "alice@corp.example")),
		Header: []byte("Subject: hello\r\n\r\n"), Body: blob.Body{Size: int64(len(body)), Inline: []byte(body)},
	}
}

func attempts(t testing.TB, addresses ...string) (all []queue.Attempt) {
	for i, s := range addresses {
		all = append(all, queue.Attempt{QueueID: 1, N: int32(i), Recipient: queue.Recipient{Address: address(t, s)}})
	}
	return all
}

// brief is outcomes as one line: enhanced code, code, relay's port left out.
func brief(outcomes []queue.Outcome) string {
	var b strings.Builder
	for i, o := range outcomes {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %d %s", o.Reply.Enhanced, o.Reply.Code, o.Reply.Text)
		if o.Down {
			b.WriteString(" (down)")
		}
	}
	return b.String()
}

func refuse(code int, enhanced smtp.EnhancedCode, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	srv := testenv.SMTP(t, testenv.SMTPRefusal{}, nil)
	tr := newTransport(t, Config{})
	body := ".\r\n..dots\r\nlast line\r\n"
	out := tr.Deliver(t.Context(), to(t, srv.Addr), note(t, body), attempts(t, "bob@next.example", `"two words"@next.example`))
	for _, o := range out {
		if !o.Reply.IsDelivered() || o.Reply.Code != 250 || o.Reply.Relay != "mx1.next.example["+strings.Replace(srv.Addr, ":", "]:", 1) || o.Down || o.Passed || o.TLS != "" {
			t.Errorf("outcome %+v", o)
		}
	}
	got := srv.Messages()
	if len(got) != 1 || got[0].From != "alice@corp.example" || fmt.Sprint(got[0].To) != "[bob@next.example two words@next.example]" || got[0].Data != "Subject: hello\r\n\r\n"+body {
		t.Errorf("got %+v", got)
	}
}

// The outcome of each recipient is its own.
func TestRecipients(t *testing.T) {
	t.Parallel()
	srv := testenv.SMTP(t, testenv.SMTPRefusal{Rcpt: func(to string) error {
		switch to[:1] {
		case "g":
			return refuse(550, smtp.EnhancedCode{5, 1, 1}, "gone\x1b[2J away")
		case "b":
			return refuse(450, smtp.EnhancedCode{4, 2, 0}, "busy")
		case "n":
			return refuse(553, smtp.NoEnhancedCode, "no code")
		}
		return nil
	}}, nil)
	for _, pipelined := range []bool{true, false} {
		tr := newTransport(t, Config{KeepIdle: -1})
		addr := srv.Addr
		if !pipelined {
			addr = testenv.SMTPWithout(t, srv.Addr, "PIPELINING")
		}
		out := tr.Deliver(t.Context(), to(t, addr), note(t, "x\r\n"), attempts(t, "ok@next.example", "gone@next.example", "busy@next.example", "nocode@next.example"))
		want := "2.0.0 250 OK: queued, 5.1.1 550 gone [2J away, 4.2.0 450 busy, 5.0.0 553 no code"
		if got := brief(out); got != want {
			t.Errorf("pipelined %v:\n got %s\nwant %s", pipelined, got, want)
		}
		out = tr.Deliver(t.Context(), to(t, addr), note(t, "x\r\n"), attempts(t, "gone@next.example"))
		if got := brief(out); got != "5.1.1 550 gone [2J away" {
			t.Errorf("pipelined %v, all refused: %s", pipelined, got)
		}
	}
	if n := len(srv.Messages()); n != 2 {
		t.Errorf("%d messages arrived", n)
	}
}

// What the next hop cannot take is not sent, and is the message's own failure.
func TestNotOffered(t *testing.T) {
	t.Parallel()
	plain := testenv.SMTP(t, testenv.SMTPRefusal{}, nil)
	utf8 := testenv.SMTP(t, testenv.SMTPRefusal{}, func(s *smtp.Server) { s.EnableSMTPUTF8 = true; s.MaxMessageBytes = 100 })
	no8bit := testenv.SMTPWithout(t, plain.Addr, "8BITMIME")
	tr := newTransport(t, Config{})
	with := func(change func(*queue.Message)) *queue.Message {
		m := note(t, "x\r\n")
		change(m)
		return m
	}
	signed := note(t, "--s\r\n\r\nü\r\n--s--\r\n")
	signed.Header, signed.Body8Bit = []byte("MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n"), true
	const ok = "2.0.0 250 OK: queued"
	tests := []struct {
		name, addr string
		m          *queue.Message
		to         []string
		want       string
	}{
		{"SMTPUTF8 asked for but not needed", plain.Addr, with(func(m *queue.Message) { m.SMTPUTF8 = true }), []string{"bob@next.example"}, ok},
		{"RFC 6531 §4.4: one recipient of two", plain.Addr, note(t, "x\r\n"), []string{"王伟@next.example", "bob@next.example"}, "5.6.7 0 next hop does not take internationalized addresses, " + ok},
		{"sender", plain.Addr, with(func(m *queue.Message) { m.ReversePath = envelope.ReversePathOf(address(t, "王@corp.example")) }), []string{"bob@next.example"}, "5.6.7 0 next hop does not take internationalized addresses"},
		{"header", plain.Addr, with(func(m *queue.Message) { m.Header = []byte("Subject: ü\r\n\r\n") }), []string{"bob@next.example"}, "5.6.9 0 next hop does not take internationalized header fields"},
		{"offered", utf8.Addr, with(func(m *queue.Message) { m.Header = []byte("Subject: ü\r\n\r\n") }), []string{"王伟@next.example"}, ok},
		{"8-bit content offered", plain.Addr, with(func(m *queue.Message) { m.Body8Bit = true }), []string{"bob@next.example"}, ok},
		{"8-bit content not offered", no8bit, with(func(m *queue.Message) { m.Body8Bit = true }), []string{"bob@next.example"}, ok},
		{"8-bit content not offered, signed", no8bit, signed, []string{"bob@next.example"}, "5.6.3 0 next hop does not take 8-bit content, and it cannot be converted to 7 bits: it is signed"},
		{"too large", utf8.Addr, note(t, strings.Repeat("x", 100)), []string{"bob@next.example"}, "5.3.4 0 message of 118 octets is larger than the 100 that the next hop takes"},
	}
	for _, tt := range tests {
		if got := brief(tr.Deliver(t.Context(), to(t, tt.addr), tt.m, attempts(t, tt.to...))); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
	if m := utf8.Messages()[0]; !m.MailOptions.UTF8 || m.To[0] != "王伟@next.example" {
		t.Errorf("got %+v", m)
	}
}

// resigner puts a field in front that says what it was given.
type resigner struct{}

func (resigner) Resign(_ context.Context, before message.Header, body func(io.Writer) error, after message.Header, converted func(io.Writer) error) (message.Header, error) {
	var was, is strings.Builder
	if err := errors.Join(body(&was), converted(&is)); err != nil {
		return after, err
	}
	err := after.Prepend("X-Signed", fmt.Sprintf("%d %d %d", before.Len(), was.Len(), is.Len()))
	return after, err
}

// RFC 6152 §3: what a next hop without 8BITMIME gets is converted, with its
// signatures and its SIZE; the next hop beside it gets it as it is.
func TestConversion(t *testing.T) {
	t.Parallel()
	srv := testenv.SMTP(t, testenv.SMTPRefusal{}, nil)
	tr := newTransport(t, Config{Resigner: resigner{}})
	const header = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: "
	m := note(t, "Grüße from a machine with all of its eight bits\r\n")
	m.Header, m.Body8Bit = []byte(header+"8bit\r\n\r\n"), true
	for _, tt := range []struct{ addr, want string }{
		{srv.Addr, header + "8bit\r\n\r\nGrüße from a machine with all of its eight bits\r\n"},
		{testenv.SMTPWithout(t, srv.Addr, "8BITMIME"), "X-Signed: 3 51 59\r\n" + header + "quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe from a machine with all of its eight bits\r\n"},
	} {
		if got := brief(tr.Deliver(t.Context(), to(t, tt.addr), m, attempts(t, "bob@next.example"))); got != "2.0.0 250 OK: queued" {
			t.Error(got)
		}
		all := srv.Messages()
		last := all[len(all)-1]
		if last.Data != tt.want || last.MailOptions.Size != int64(len(tt.want)) || (last.MailOptions.Body == smtp.Body8BitMIME) != strings.Contains(tt.want, "ü") {
			t.Errorf("got %+v\nwant %q", last, tt.want)
		}
	}
}

// RFC 3461: what the sender wants to hear goes along, if the next hop knows DSN.
func TestDSNParameters(t *testing.T) {
	t.Parallel()
	srv := testenv.SMTP(t, testenv.SMTPRefusal{}, func(s *smtp.Server) { s.EnableDSN = true })
	m := note(t, "x\r\n")
	m.Return, m.EnvID = envelope.ReturnHeaders, "id +1="
	a := attempts(t, "bob@next.example", "carol@next.example", "dave@next.example")
	a[0].Recipient.Original, a[0].Recipient.OriginalType, a[0].Recipient.Notify = "b+ob@corp.example", "rfc822", envelope.NotifySuccess|envelope.NotifyDelay
	a[1].Recipient.Notify = envelope.NotifyNever
	a[2].Recipient.Original, a[2].Recipient.OriginalType = "王伟@corp.example", "utf-8"
	for _, o := range newTransport(t, Config{}).Deliver(t.Context(), to(t, srv.Addr), m, a) {
		if !o.Passed {
			t.Errorf("outcome %+v", o)
		}
	}
	got := srv.Messages()[0]
	if got.MailOptions.Return != smtp.DSNReturnHeaders || got.MailOptions.EnvelopeID != m.EnvID {
		t.Errorf("MAIL: %+v", got.MailOptions)
	}
	var rcpt []string
	for _, o := range got.RcptOptions {
		rcpt = append(rcpt, fmt.Sprint(o.Notify, o.OriginalRecipientType, o.OriginalRecipient))
	}
	if want := "[[SUCCESS DELAY]RFC822b+ob@corp.example [NEVER] []UTF-8王伟@corp.example]"; fmt.Sprint(rcpt) != want {
		t.Errorf("RCPT:\n got %v\nwant %v", rcpt, want)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	good := testenv.SMTP(t, testenv.SMTPRefusal{}, testenv.WithTLS(t, "mx1.next.example"))
	other := testenv.SMTP(t, testenv.SMTPRefusal{}, testenv.WithTLS(t, "other.example"))
	clear := testenv.SMTP(t, testenv.SMTPRefusal{}, nil)
	roots := testenv.Certificate(t).Pool
	const ok = "2.0.0 250 OK: queued"
	deny := func(tls.ConnectionState) error { return errors.New("record does not match") }
	tests := []struct {
		name, addr string
		policy     TLSPolicy
		want       string
		tls        bool
	}{
		{"opportunistic", other.Addr, TLSPolicy{Level: TLSOpportunistic}, ok, true},
		{"opportunistic, not offered", clear.Addr, TLSPolicy{Level: TLSOpportunistic}, ok, false},
		{"none", good.Addr, TLSPolicy{Level: TLSNone}, ok, false},
		{"encrypt, wrong name", other.Addr, TLSPolicy{Level: TLSEncrypt}, ok, true},
		{"encrypt, not offered", clear.Addr, TLSPolicy{Level: TLSEncrypt}, "4.7.4 0 TLS is required, but the host does not offer it (down)", false},
		{"verify", good.Addr, TLSPolicy{Level: TLSVerify}, ok, true},
		{"verify, wrong name", other.Addr, TLSPolicy{Level: TLSVerify}, "4.7.5 0 TLS handshake or verification failed", false},
		{"DANE says no", good.Addr, TLSPolicy{Level: TLSEncrypt, Verify: deny}, "4.7.5 0 TLS handshake or verification failed: record does not match (down)", false},
	}
	for _, tt := range tests {
		tr := newTransport(t, Config{Roots: roots, Policy: func(context.Context, *route.Route, route.Hop) (TLSPolicy, error) { return tt.policy, nil }})
		out := tr.Deliver(t.Context(), to(t, tt.addr), note(t, "x\r\n"), attempts(t, "bob@next.example"))
		if got := brief(out); !strings.HasPrefix(got, tt.want) || (out[0].TLS != "") != tt.tls {
			t.Errorf("%s:\n got %s, TLS %q\nwant %s", tt.name, got, out[0].TLS, tt.want)
		}
	}
	for _, srv := range []*testenv.SMTPServer{good, other, clear} {
		for _, m := range srv.Messages() {
			if m.TLS == (srv == clear) && srv != good {
				t.Errorf("message came with TLS %v", m.TLS)
			}
		}
	}
	failing := newTransport(t, Config{Policy: func(context.Context, *route.Route, route.Hop) (TLSPolicy, error) {
		return TLSPolicy{}, errors.New("DNS")
	}})
	if got := brief(failing.Deliver(t.Context(), to(t, good.Addr), note(t, "x\r\n"), attempts(t, "bob@next.example"))); got != "4.7.5 0 TLS policy of the host is not known (down)" {
		t.Errorf("policy not known: %s", got)
	}
}

// The password goes to the smarthost only, and through TLS only.
func TestSmarthost(t *testing.T) {
	t.Parallel()
	login := testenv.SMTPRefusal{Login: func(user, password string) error {
		if user != "corp" || password != "secret" {
			return smtp.ErrAuthFailed
		}
		return nil
	}}
	secure := testenv.SMTP(t, login, testenv.WithTLS(t, "mx1.next.example"))
	clear := testenv.SMTP(t, login, func(s *smtp.Server) { s.AllowInsecureAuth = true })
	roots := testenv.Certificate(t).Pool
	tests := []struct {
		name, addr string
		kind       route.Kind
		config     Config
		want       string
	}{
		{"well", secure.Addr, route.BySmarthost, Config{Login: &Login{User: "corp", Password: "secret"}}, "2.0.0 250 OK: queued"},
		{"wrong password: our trouble", secure.Addr, route.BySmarthost, Config{Login: &Login{User: "corp", Password: "x"}}, "4.7.0 0 the smarthost refused our login: 535 Authentication failed (down)"},
		{"not offered in the clear", clear.Addr, route.BySmarthost, Config{Login: &Login{User: "corp", Password: "secret"}}, "4.7.4 0 TLS is required, but the host does not offer it (down)"},
		{"never in the clear", clear.Addr, route.BySmarthost, Config{SmarthostTLS: TLSOpportunistic, Login: &Login{User: "corp", Password: "secret"}}, "4.7.0 0 the smarthost wants a password without TLS (down)"},
		{"unless allowed", clear.Addr, route.BySmarthost, Config{SmarthostTLS: TLSNone, Login: &Login{User: "corp", Password: "secret", AllowClear: true}}, "2.0.0 250 OK: queued"},
		{"never to others", clear.Addr, route.ByMX, Config{Login: &Login{User: "corp", Password: "secret", AllowClear: true}}, "5.7.0 502 Please authenticate first"},
	}
	for _, tt := range tests {
		tt.config.Roots = roots
		rt := to(t, tt.addr)
		rt.Kind = tt.kind
		if got := brief(newTransport(t, tt.config).Deliver(t.Context(), rt, note(t, "x\r\n"), attempts(t, "bob@next.example"))); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
	if s := fmt.Sprint(&Login{User: "u", Password: "secret"}); strings.Contains(s, "secret") {
		t.Errorf("a login prints as %s", s)
	}
}

// One connection serves many messages, and nobody notices when it has died.
func TestReuse(t *testing.T) {
	t.Parallel()
	srv := testenv.SMTP(t, testenv.SMTPRefusal{Rcpt: func(to string) error {
		if strings.HasPrefix(to, "gone") {
			return refuse(550, smtp.EnhancedCode{5, 1, 1}, "gone")
		}
		return nil
	}}, nil)
	tr := newTransport(t, Config{KeepIdle: time.Minute, MaxMessages: 4})
	send := func(to_ string) string {
		return brief(tr.Deliver(t.Context(), to(t, srv.Addr), note(t, "x\r\n"), attempts(t, to_)))
	}
	for i := range 8 {
		rcpt, want := "bob@next.example", "2.0.0 250 OK: queued"
		if i%2 == 1 { // what was refused leaves no trace in the next transaction
			rcpt, want = "gone@next.example", "5.1.1 550 gone"
		}
		if got := send(rcpt); got != want {
			t.Errorf("message %d: %s", i, got)
		}
	}
	for _, m := range srv.Messages() {
		if len(m.To) != 1 {
			t.Errorf("recipients of two messages in one: %v", m.To)
		}
	}
	if n := srv.Sessions(); n != 2 {
		t.Errorf("%d connections for 8 messages, at most 4 each", n)
	}
	send("bob@next.example")
	for _, list := range tr.idle.byName { // the server drops who waits
		for _, w := range list {
			_ = w.s.raw.Close()
		}
	}
	if got := send("bob@next.example"); got != "2.0.0 250 OK: queued" {
		t.Errorf("after the idle connection died: %s", got)
	}
}

// More recipients than a server takes go in several transactions.
func TestManyRecipients(t *testing.T) {
	t.Parallel()
	srv := testenv.SMTP(t, testenv.SMTPRefusal{}, func(s *smtp.Server) { s.MaxRecipients = 30 })
	hidden := testenv.SMTPWithout(t, srv.Addr, "LIMITS")
	var list []string
	for i := range 150 {
		list = append(list, fmt.Sprintf("u%d@next.example", i))
	}
	for _, addr := range []string{srv.Addr, hidden} {
		before := len(srv.Messages())
		for i, o := range newTransport(t, Config{}).Deliver(t.Context(), to(t, addr), note(t, "x\r\n"), attempts(t, list...)) {
			if !o.Reply.IsDelivered() {
				t.Errorf("recipient %d: %+v", i, o)
			}
		}
		seen := map[string]int{}
		for _, m := range srv.Messages()[before:] {
			for _, r := range m.To {
				seen[r]++
			}
		}
		for _, r := range list {
			if seen[r] != 1 {
				t.Errorf("%s got it %d times", r, seen[r])
			}
		}
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	tr := newTransport(t, Config{})
	out := tr.Deliver(t.Context(), to(t, addr), note(t, "x\r\n"), attempts(t, "bob@next.example"))
	if o := out[0]; !o.Down || o.Reply.Relay != "none" || o.Reply.Enhanced != "4.4.1" || !strings.HasSuffix(o.Reply.Text, "connection refused or unreachable") {
		t.Errorf("got %+v", o)
	}
}

// The address that we connect from can be chosen, for each family.
func TestBind(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	from := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		from <- c.RemoteAddr().(*net.TCPAddr).IP.String()
		_ = c.Close()
	}()
	tr := newTransport(t, Config{Bind4: netip.MustParseAddr("127.0.0.2"), Bind6: netip.MustParseAddr("::1")})
	tr.Deliver(t.Context(), to(t, l.Addr().String()), note(t, "x\r\n"), attempts(t, "bob@next.example"))
	if got := <-from; got != "127.0.0.2" {
		t.Errorf("connected from %s", got)
	}
	for _, bad := range []Config{{}, {Hostname: "a.example", Bind4: netip.MustParseAddr("::1")}, {Hostname: "a.example", Bind6: netip.MustParseAddr("127.0.0.1")}, {Hostname: "a.example", Login: &Login{}}, {Hostname: "a.example", TLS: 9}, {Hostname: "a.example", MaxMessages: -1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken as valid", bad)
		}
	}
}

// FuzzReply: whatever a server says, the outcome is one printable line of
// bounded length with a code of the reply's class.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "550-5.1.1 a\r\n550 5.1.1 b\r\n", "421\r\n", "220-\xff\x1b\r\n220 x\n", "25\r\n", "554 5.7.1\r\n", "250-a\r\n251 b\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rep, err := readReply(bufio.NewReaderSize(bytes.NewReader(b), maxReplyLine))
		if err != nil {
			return
		}
		out := rep.outcome("relay")
		if rep.code < 200 || rep.code > 599 || int(out.Enhanced[0]-'0') != rep.class() || strings.Count(out.Enhanced, ".") != 2 || len(out.Enhanced) > 9 {
			t.Errorf("code %d, enhanced %q", rep.code, out.Enhanced)
		}
		if len(out.Text) > maxReplyText || printable(out.Text) != out.Text {
			t.Errorf("text %q", out.Text)
		}
		var e extensions
		e.read(rep.lines)
	})
}

// FuzzContent: nothing but the end looks like the end, and the receiver gets
// canonical lines.
func FuzzContent(f *testing.F) {
	for _, s := range []string{"", "a", ".", "\n.\n", "\r\n.\r\n", "a\r.\rb", "..\r\n", "\n.\r\nMAIL FROM:<x>\r\n", "\r\r\n"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var wire bytes.Buffer
		d := &dotWriter{w: bufio.NewWriter(&wire)}
		if cut < 0 || cut > len(b) {
			cut = len(b)
		}
		for _, p := range [][]byte{b[:cut], b[cut:]} {
			if n, err := d.Write(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
		sent := wire.String()
		if sent != ".\r\n" && (!strings.HasSuffix(sent, "\r\n.\r\n") || strings.Count(sent, "\r\n.\r\n") != 1 || strings.HasPrefix(sent, ".\r\n")) {
			t.Fatalf("%q is sent as %q", b, sent)
		}
		if strings.Count(sent, "\r") != strings.Count(sent, "\r\n") || strings.Count(sent, "\n") != strings.Count(sent, "\r\n") {
			t.Fatalf("%q is sent as %q: lone CR or LF", b, sent)
		}
		var got strings.Builder
		for line := range strings.SplitSeq(strings.TrimSuffix(sent, ".\r\n"), "\r\n") {
			got.WriteString(strings.TrimPrefix(line, ".") + "\n")
		}
		want := strings.ReplaceAll(strings.ReplaceAll(string(b), "\r\n", "\n"), "\r", "\n")
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		if strings.TrimSuffix(got.String(), "\n") != want {
			t.Fatalf("%q arrives as %q", b, got.String())
		}
	})
}

func BenchmarkDeliver(b *testing.B) {
	srv := testenv.SMTP(b, testenv.SMTPRefusal{}, nil)
	tr := newTransport(b, Config{})
	m := note(b, strings.Repeat("0123456789012345678901234567890123456789012345678901234567890\r\n", 65))
	rt, a := to(b, srv.Addr), attempts(b, "bob@next.example")
	b.ReportAllocs()
	for b.Loop() {
		if out := tr.Deliver(b.Context(), rt, m, a); !out[0].Reply.IsDelivered() {
			b.Fatalf("%+v", out[0])
		}
	}
}
