package lmtpd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"dirpost/internal/dialog"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"
)

// recorder is a Committer that keeps what comes in: nobody@corp.example does not
// exist, full@corp.example is full when the message is committed.
type recorder struct {
	mu       sync.Mutex // guards the rest
	messages []*recording
	open     int
}

// recording is a transaction of a recorder.
type recording struct {
	to      *recorder
	client  envelope.Client
	env     envelope.Envelope
	content bytes.Buffer
	done    bool
}

func (r *recorder) Start(c *envelope.Client, env envelope.Envelope) (Transaction, error) {
	if a, _ := env.ReversePath.Address(); a.Local == "blocked" {
		return nil, envelope.Because(envelope.StatusRefused, nil)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
	return &recording{to: r, client: *c, env: env}, nil
}

func (t *recording) AddRecipient(_ context.Context, r envelope.Recipient) error {
	switch {
	case r.Address.Domain != "corp.example":
		return envelope.Because(envelope.StatusRelay, nil)
	case r.Address.Local == "nobody":
		return envelope.ErrNotFound
	case r.Address.Local == "broken":
		return errors.New("secret cause")
	}
	t.env.Recipients = append(t.env.Recipients, r)
	return nil
}

func (t *recording) Begin(context.Context) {}

func (t *recording) Write(p []byte) (int, error) {
	if t.done {
		panic("content of a finished transaction")
	}
	return t.content.Write(p)
}

func (t *recording) QueueID() envelope.QueueID { return 1 }

func (t *recording) Commit(context.Context) ([]error, error) {
	switch s := t.content.String(); {
	case strings.Contains(s, "Subject: disk"):
		return nil, envelope.ErrDiskFull
	case strings.Contains(s, "Subject: bug"):
		panic("a bug")
	}
	t.to.mu.Lock()
	t.to.messages = append(t.to.messages, t)
	t.to.mu.Unlock()
	results := make([]error, len(t.env.Recipients))
	for i, r := range t.env.Recipients {
		if r.Address.Local == "full" {
			results[i] = envelope.ErrOverQuota
		}
	}
	t.Abort()
	return results, nil
}

func (t *recording) Abort() {
	if t.done {
		return
	}
	t.done = true
	t.to.mu.Lock()
	defer t.to.mu.Unlock()
	t.to.open--
}

func (r *recorder) all() []*recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*recording(nil), r.messages...)
}

// pipes is a listener of pipes.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (l *pipes) Dial(int) (net.Conn, error) {
	client, server := net.Pipe()
	l.conns <- server
	return client, nil
}

// serve runs a server on ln until stop is called, which checks that it ends well.
func serve(t *testing.T, ln net.Listener, set func(*Config)) (door *recorder, stop func()) {
	t.Helper()
	cfg := DefaultConfig("mx.corp.example")
	if set != nil {
		set(&cfg)
	}
	door = &recorder{}
	s, err := New(cfg, door, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	return door, func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if door.open != 0 {
			t.Errorf("%d transactions left open", door.open)
		}
	}
}

func TestDialogs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.dialog")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".dialog"), func(t *testing.T) {
			t.Parallel()
			ln := newPipes()
			door, stop := serve(t, ln, func(c *Config) { c.MaxSize = 10_000; c.Grace = 0 })
			var once sync.Once
			defer once.Do(stop)
			r := dialog.Runner{Dial: ln.Dial, Do: func(text string) error {
				if got := fmt.Sprintf("accepted %d", len(door.all())); got != text {
					return errors.New(got)
				}
				return nil
			}}
			r.Run(t, file)
		})
	}
}

const message = "Subject: x\r\n\r\n.\r\n..\r\ntext\r\n"

// go-smtp's client is no independent peer here, but the one that others use.
func TestGoSMTPClient(t *testing.T) {
	t.Parallel()
	ln := newPipes()
	door, stop := serve(t, ln, nil)
	defer stop()
	nc, _ := ln.Dial(1)
	c := smtp.NewClientLMTP(nc)
	defer c.Close()
	must(t, c.Mail("sender@outside.example", &smtp.MailOptions{Return: smtp.DSNReturnHeaders, EnvelopeID: "e1", UTF8: true, Size: 30}))
	for _, to := range []string{"alice@corp.example", "full@corp.example", "王伟@corp.example", "alice@corp.example"} {
		must(t, c.Rcpt(to, &smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifyFailure, smtp.DSNNotifyDelayed}}))
	}
	w, err := c.Data()
	must(t, err)
	io.WriteString(w, message)
	_, err = w.CloseWithLMTPResponse()
	var failed smtp.LMTPDataError
	if !errors.As(err, &failed) || len(failed) != 1 || failed["full@corp.example"].Code != 452 {
		t.Errorf("Close: %v", err)
	}
	must(t, c.Quit())
	all := door.all()
	if len(all) != 1 || all[0].content.String() != message || len(all[0].env.Recipients) != 4 {
		t.Fatalf("got %+v", all)
	}
	m := all[0]
	if m.client.Protocol != "LMTP" || m.client.Addr != "" || m.env.EnvID != "e1" || m.env.Return != envelope.ReturnHeaders || !m.env.SMTPUTF8 || m.env.Recipients[0].Notify != envelope.NotifyFailure|envelope.NotifyDelay {
		t.Errorf("got %+v %+v", m.client, m.env)
	}
}

func TestRealClients(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	door, stop := serve(t, ln, nil)
	defer stop()
	host, port, _ := net.SplitHostPort(ln.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, testenv.Need(t, "swaks"), "--protocol", "LMTP", "--server", host, "--port", port, "--ehlo", "mta.example",
		"--from", "sender@outside.example", "--to", "alice@corp.example,bob@corp.example", "--header", "Subject: from swaks").CombinedOutput()
	if err != nil {
		t.Fatalf("swaks: %v\n%s", err, out)
	}
	script := `
import smtplib, sys
with smtplib.LMTP(sys.argv[1], int(sys.argv[2]), "mta.example") as c:
    c.sendmail("sender@outside.example", ["alice@corp.example"], b"Subject: from python\r\n\r\n.\r\ntext\r\n", rcpt_options=["NOTIFY=NEVER"])
`
	cmd := exec.CommandContext(ctx, testenv.Need(t, "python3"), "-", host, port)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("python: %v\n%s", err, out)
	}
	all := door.all()
	if len(all) != 2 || len(all[0].env.Recipients) != 2 || all[1].content.String() != "Subject: from python\r\n\r\n.\r\ntext\r\n" || all[1].client.Addr != "127.0.0.1" {
		t.Errorf("got %+v", all)
	}
}

// Whoever may connect may deliver, so few may connect.
func TestClients(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, stop := serve(t, ln, func(c *Config) { c.Clients = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	defer stop()
	nc, err := net.Dial("tcp", ln.Addr().String())
	must(t, err)
	defer nc.Close()
	dialog.Expect(t, nc, "554 5.7.1 *")
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	ln := newPipes()
	_, stop := serve(t, ln, func(c *Config) { c.MaxConnections = 1 })
	defer stop()
	first, _ := ln.Dial(1)
	defer first.Close()
	dialog.Expect(t, first, "220 *")
	second, _ := ln.Dial(2)
	defer second.Close()
	dialog.Expect(t, second, "421 4.3.2 *")
}

// inBubble runs f in virtual time.
func inBubble(t *testing.T, f func(t *testing.T, door *recorder, ln *pipes, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		door, stop := serve(t, ln, nil)
		f(t, door, ln, stop)
	})
}

// begin brings a session to its content.
func begin(t *testing.T, nc net.Conn) {
	t.Helper()
	expect(t, nc, "220")
	for _, line := range []string{"LHLO mta.example", "MAIL FROM:<sender@outside.example>", "RCPT TO:<alice@corp.example>"} {
		io.WriteString(nc, line+"\r\n")
		expect(t, nc, "250")
	}
	io.WriteString(nc, "DATA\r\n")
	expect(t, nc, "354")
}

// expect reads a reply to its last line, octet by octet.
func expect(t *testing.T, nc net.Conn, code string) {
	t.Helper()
	for {
		var line []byte
		for one := make([]byte, 1); !bytes.HasSuffix(line, []byte("\r\n")); line = append(line, one[0]) {
			if _, err := io.ReadFull(nc, one); err != nil {
				t.Fatalf("reply %q: %v", line, err)
			}
		}
		if !bytes.HasPrefix(line, []byte(code)) {
			t.Fatalf("got %q, want %s", line, code)
		}
		if line[3] == ' ' {
			return
		}
	}
}

// What comes after a message has stalled is not executed, as it is in go-smtp on
// a connection of its own.
func TestDataTimeout(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, door *recorder, ln *pipes, stop func()) {
		nc, _ := ln.Dial(1)
		begin(t, nc)
		io.WriteString(nc, "Subject: x\r\n")
		start := time.Now()
		dialog.Expect(t, nc, "421 4.4.2 *")
		if d := time.Since(start); d != 5*time.Minute {
			t.Errorf("timeout after %v", d)
		}
		go io.WriteString(nc, "RSET\r\nMAIL FROM:<smuggled@outside.example>\r\nRCPT TO:<alice@corp.example>\r\nDATA\r\nx\r\n.\r\n")
		if b, _ := io.ReadAll(nc); len(b) != 0 {
			t.Errorf("then %q", b)
		}
		stop()
		if n := len(door.all()); n != 0 {
			t.Errorf("%d messages", n)
		}
	})
}

// A message may take long as long as it comes.
func TestSlowContent(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, door *recorder, ln *pipes, stop func()) {
		nc, _ := ln.Dial(1)
		begin(t, nc)
		for range 100 {
			time.Sleep(4 * time.Minute)
			io.WriteString(nc, "text\r\n")
		}
		io.WriteString(nc, ".\r\n")
		dialog.Expect(t, nc, "250 2.1.5 <alice@corp.example> *")
		nc.Close()
		stop()
		if n := len(door.all()); n != 1 {
			t.Errorf("%d messages", n)
		}
	})
}

// RFC 5321 §3.8: idle clients are told at once, a transaction may finish, one that
// does not is cut off when the grace is over.
func TestShutdown(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, door *recorder, ln *pipes, stop func()) {
		idle, _ := ln.Dial(1)
		quick, _ := ln.Dial(2)
		stuck, _ := ln.Dial(3)
		dialog.Expect(t, idle, "220 *")
		begin(t, quick)
		begin(t, stuck)
		synctest.Wait()
		start := time.Now()
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		dialog.Expect(t, idle, "421 4.3.2 *")
		time.Sleep(10 * time.Second)
		io.WriteString(quick, "text\r\n.\r\n")
		dialog.Expect(t, quick, "250 2.1.5 *")
		dialog.Expect(t, quick, "421 4.3.2 *")
		dialog.Expect(t, stuck, "421 4.3.2 *")
		<-stopped
		if d := time.Since(start); d != 20*time.Second {
			t.Errorf("over after %v", d)
		}
		if n := len(door.all()); n != 1 {
			t.Errorf("%d messages", n)
		}
	})
}

// The reason why a connection ends arrives at a client that is just sending.
func TestLastWordsArrive(t *testing.T) {
	t.Parallel()
	for name, within := range map[string]bool{"between messages": false, "within content": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			cfg := DefaultConfig("mx.corp.example")
			if cfg.Grace = time.Hour; within {
				cfg.Grace = time.Millisecond
			}
			s, err := New(cfg, &recorder{}, nil, slog.New(slog.DiscardHandler))
			must(t, err)
			s.hangUp = time.Minute // whatever the load of the machine
			ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
			served := make(chan error, 1)
			go func() { served <- s.Serve(ctx, ln) }()
			nc, err := net.Dial("tcp", ln.Addr().String())
			must(t, err)
			defer nc.Close()
			r := bufio.NewReader(nc)
			want := func(code string) {
				t.Helper()
				if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, code) {
					t.Fatalf("%q, %v, want %s", line, err, code)
				}
			}
			want("220 ")
			if within {
				for _, line := range []string{"LHLO client.example", "MAIL FROM:<a@outside.example>", "RCPT TO:<alice@corp.example>", "DATA"} {
					_, err := io.WriteString(nc, line+"\r\n")
					must(t, err)
					for {
						reply, err := r.ReadString('\n')
						must(t, err)
						if reply[3] == ' ' {
							break
						}
					}
				}
			}
			cancel()
			want("421 4.3.2 ")
			for range 50 {
				_, err := io.WriteString(nc, strings.Repeat("text\r\n", 1000))
				must(t, err)
			}
			if rest, err := io.ReadAll(r); err != nil || strings.Contains(string(rest), "250") {
				t.Errorf("after the last words: %q, %v", rest, err)
			}
			nc.Close()
			must(t, <-served)
		})
	}
}

// go-smtp calls Reset and Logout while the content of BDAT is still being taken;
// the race detector looks on.
func TestResetBesideChunk(t *testing.T) {
	t.Parallel()
	ln := newPipes()
	door, stop := serve(t, ln, nil)
	for i := range 30 {
		nc, _ := ln.Dial(1)
		go io.WriteString(nc, "LHLO mta.example\r\nMAIL FROM:<sender@outside.example>\r\nRCPT TO:<alice@corp.example>\r\nBDAT 4\r\nabcd")
		for _, code := range []string{"220", "250", "250", "250"} {
			expect(t, nc, code)
		}
		dialog.Expect(t, nc, "250 2.0.0 Continue")
		if i%2 == 0 {
			io.WriteString(nc, "RSET\r\n")
			dialog.Expect(t, nc, "250 *")
		}
		nc.Close()
	}
	stop()
	if n := len(door.all()); n != 0 {
		t.Errorf("%d messages", n)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
