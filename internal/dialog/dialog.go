package dialog

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Runner plays dialogues. Only Dial is needed.
type Runner struct {
	// Dial connects client n, from 1. The runner closes the connection.
	Dial func(n int) (net.Conn, error)
	// Given prepares what a "given" line asks for. nil: such lines are errors.
	Given func(text string) error
	// Do does what a "do" line asks for. nil: such lines are errors.
	Do func(text string) error
	// TLS is used by "starttls".
	TLS *tls.Config
	// Timeout is how long a step may take, 30 s if zero. It is no part of what
	// is tested: a dialogue that keeps it waiting has failed.
	Timeout time.Duration
	// Vars are values that a dialogue may use as {name} from the start.
	Vars map[string]string
}

// Run plays file over conns, client 1 first.
func Run(t testing.TB, file string, conns ...net.Conn) {
	t.Helper()
	r := Runner{Dial: func(n int) (net.Conn, error) {
		if n < 1 || n > len(conns) {
			return nil, fmt.Errorf("no connection for client %d", n)
		}
		return conns[n-1], nil
	}}
	r.Run(t, file)
}

// Expect waits for a line from conn that matches pattern, and fails the test
// when the next line is another one. It reads octet by octet, so that nothing
// behind the line is lost. It has no time limit of its own: it is meant for
// virtual time.
func Expect(t testing.TB, conn net.Conn, pattern string) {
	t.Helper()
	p, err := compile(pattern, nil)
	if err != nil {
		t.Fatalf("pattern %q: %v", pattern, err)
	}
	var line []byte
	for one := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; {
		if _, err := io.ReadFull(conn, one); err != nil {
			t.Fatalf("wanted %q\ngot    %q and %v", pattern, line, err)
		}
		line = append(line, one[0])
	}
	if got := strings.TrimSuffix(string(line), "\r\n"); !p.match(got, map[string]string{}) {
		t.Fatalf("wanted %q\ngot    %q", pattern, got)
	}
}

// Run plays the dialogue in file and fails t at the first line that goes
// otherwise, with the conversation so far.
func (r *Runner) Run(t testing.TB, file string) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.play(file, string(src)); err != nil {
		t.Fatal(err)
	}
}

// run is one run of a script.
type run struct {
	*Runner
	vars       map[string]string
	clients    map[int]*client
	several    bool
	transcript strings.Builder
}

// play plays src, which is called name in the error.
func (r *Runner) play(name, src string) error {
	steps, err := parse(src)
	if err != nil {
		return fmt.Errorf("%s:%w", name, err)
	}
	u := &run{Runner: r, vars: map[string]string{}, clients: map[int]*client{}}
	for k, v := range r.Vars {
		u.vars[k] = v
	}
	for _, s := range steps {
		u.several = u.several || s.client > 1
	}
	defer func() {
		for _, c := range u.clients {
			c.close()
		}
	}()
	for i := range steps {
		var before *step
		if i > 0 {
			before = &steps[i-1]
		}
		if err := u.do(&steps[i], before); err != nil {
			return fmt.Errorf("%s:%d: %w\n%s", name, steps[i].line, err, u.report())
		}
	}
	return nil
}

// report is the conversation so far and what was not asked for yet.
func (u *run) report() string {
	var b strings.Builder
	b.WriteString("so far:\n")
	b.WriteString(u.transcript.String())
	for n := 1; n <= len(u.clients)+1; n++ {
		if c := u.clients[n]; c != nil && c.pending() != "" {
			fmt.Fprintf(&b, "  S%s: (not asked for yet) %s\n", c.name, quote(c.pending()))
		}
	}
	return b.String()
}

func (u *run) note(side string, c *client, text string) {
	fmt.Fprintf(&u.transcript, "  %s%s: %s\n", side, c.name, text)
}

// quote shows octets that are not plain, and cuts what is long.
func quote(s string) string {
	cut := ""
	if len(s) > 2000 {
		s, cut = s[:2000], fmt.Sprintf("… (%d octets)", len(s))
	}
	q := strconv.QuoteToGraphic(s)
	q = q[1 : len(q)-1]
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(q) + cut
}

func (u *run) timeout() time.Duration {
	if u.Timeout > 0 {
		return u.Timeout
	}
	return 30 * time.Second
}

// client returns client n, and connects it at its first mention.
func (u *run) client(n int) (*client, error) {
	if c := u.clients[n]; c != nil {
		return c, nil
	}
	conn, err := u.Dial(n)
	if err != nil {
		return nil, fmt.Errorf("connect client %d: %w", n, err)
	}
	name := ""
	if u.several {
		name = strconv.Itoa(n)
	}
	c := newClient(name, conn)
	u.clients[n] = c
	return c, nil
}

func (u *run) do(s, before *step) error {
	switch s.op {
	case opGiven:
		return call(u.Given, s)
	case opDo:
		return call(u.Do, s)
	}
	c, err := u.client(s.client)
	if err != nil {
		return err
	}
	switch s.op {
	case opConnect, opSkip: // the line after opSkip skips
	case opSend, opSendRaw, opSendN:
		return u.send(c, s)
	case opWant:
		return u.want(c, s, before != nil && before.op == opSkip)
	case opWantN:
		b, err := c.octets(u.timeout(), s.n)
		if err != nil {
			return fmt.Errorf("wanted %d octets\ngot    %s and %w", s.n, quote(c.pending()), err)
		}
		u.note("S", c, quote(string(b)))
	case opStartTLS:
		if u.TLS == nil {
			return errors.New("starttls without Runner.TLS")
		}
		fmt.Fprintf(&u.transcript, "  (TLS)\n")
		return c.startTLS(u.timeout(), u.TLS)
	case opClose:
		c.close()
	case opEOF:
		if err := c.gone(u.timeout()); err != nil {
			return fmt.Errorf("wanted the end of the connection: %w", err)
		}
	}
	return nil
}

func call(f func(string) error, s *step) error {
	if f == nil {
		return fmt.Errorf("nobody here understands %q", s.source)
	}
	if err := f(s.text); err != nil {
		return fmt.Errorf("%s: %w", s.source, err)
	}
	return nil
}

// send writes what s says. That the server has hung up is no error here: what
// it said before is the next thing to look at.
func (u *run) send(c *client, s *step) error {
	text, err := expand(s.text, u.vars)
	if err != nil {
		return err
	}
	shown := quote(text)
	switch s.op {
	case opSend:
		text += "\r\n"
	case opSendN:
		text = strings.Repeat(text, s.n/len(text)+1)[:s.n]
		shown = fmt.Sprintf("(%d octets of %s)", s.n, shown)
	}
	if err := c.send(u.timeout(), text); err != nil {
		shown += fmt.Sprintf(" (not taken: %v)", err)
	}
	u.note("C", c, shown)
	return nil
}

// want waits for the line that s asks for; skip passes over others.
func (u *run) want(c *client, s *step, skip bool) error {
	p, err := compile(s.text, u.vars)
	if err != nil {
		return err
	}
	for {
		line, err := c.line(u.timeout())
		if err != nil {
			return fmt.Errorf("\nwanted S%s: %s\ngot    %s(%w)", c.name, s.text, quote(c.pending()), err)
		}
		u.note("S", c, quote(line))
		if p.match(line, u.vars) {
			return nil
		}
		if !skip {
			return fmt.Errorf("\nwanted S%s: %s\ngot    S%s: %s", c.name, s.text, c.name, quote(line))
		}
	}
}
