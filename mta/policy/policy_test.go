package policy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"dirpost/auth"
	"dirpost/internal/envelope"
)

func facts(addr string) *Facts {
	return &Facts{Client: &envelope.Client{Helo: "client.example"}, Addr: netip.MustParseAddr(addr)}
}

func reverse(s string) envelope.ReversePath {
	if s == "" {
		return envelope.ReversePath{}
	}
	a, err := envelope.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return envelope.ReversePathOf(a)
}

// fixed gives the same verdict at every stage, and counts connections.
type fixed struct {
	name    string
	verdict Verdict
	open    *int
}

func (f fixed) Name() string    { return f.name }
func (f fixed) Stages() []Stage { return []Stage{Connect, Helo, Mail, Rcpt, Data, Content} }
func (f fixed) Leave(*Facts)    { *f.open-- }

func (f fixed) Check(_ context.Context, s Stage, _ *Facts) Verdict {
	if s == Connect {
		*f.open++
	}
	return f.verdict
}

// The first check that rejects or defers decides, in configured order; Junk
// stands when nobody does.
func TestOrder(t *testing.T) {
	t.Parallel()
	ok, junk := Verdict{}, Verdict{Action: Junk, Reason: "looks bad"}
	reject := Verdict{Action: Reject, Status: envelope.StatusRefused}
	deferred := Verdict{Action: Defer, Status: envelope.StatusBusy}
	for _, tt := range []struct {
		name     string
		verdicts []Verdict
		want     Action
		check    string
	}{
		{"nobody speaks", nil, Accept, ""},
		{"accept", []Verdict{ok, ok}, Accept, ""},
		{"reject", []Verdict{ok, reject, deferred}, Reject, "1"},
		{"defer", []Verdict{deferred, reject}, Defer, "0"},
		{"junk", []Verdict{ok, junk, junk}, Junk, "1"},
		{"reject after junk", []Verdict{junk, reject}, Reject, "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			open := 0
			var checks []Check
			for i, v := range tt.verdicts {
				checks = append(checks, fixed{fmt.Sprint(i), v, &open})
			}
			p, f := New(checks...), facts("192.0.2.1")
			for s := Connect; s < stages; s++ {
				if got := p.At(t.Context(), s, f); got.Action != tt.want || got.Check != tt.check {
					t.Errorf("stage %d: %+v", s, got)
				}
			}
			if tt.want <= Junk {
				p.Leave(f)
			} else {
				// The refusing check does not count what it refused, but this
				// one of the test did.
				open--
			}
			if open != 0 {
				t.Errorf("%d connections are still counted", open)
			}
		})
	}
}

func TestClientConcurrency(t *testing.T) {
	t.Parallel()
	p := New(Config{MaxConnections: 2}.Checks()...)
	a, same64, other := facts("2001:db8::1"), facts("2001:db8::2"), facts("2001:db8:0:1::1")
	for i, want := range []struct {
		f *Facts
		a Action
	}{{a, Accept}, {same64, Accept}, {a, Defer}, {other, Accept}} {
		if v := p.At(t.Context(), Connect, want.f); v.Action != want.a {
			t.Errorf("connection %d: %+v", i, v)
		}
	}
	p.Leave(same64)
	if v := p.At(t.Context(), Connect, a); v.Action != Accept {
		t.Errorf("after one has left: %+v", v)
	}
}

func TestClientRates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{MaxConnects: 2, MaxMessages: 3, MaxRecipients: 4, Window: time.Minute, Exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}.Checks()...)
		f, trusted := facts("192.0.2.1"), facts("10.1.2.3")
		f.ReversePath, trusted.ReversePath = reverse("a@b.example"), reverse("a@b.example")
		for range 2 {
			for s, limit := range map[Stage]int{Connect: 2, Mail: 3, Rcpt: 4} {
				for n := 1; n <= limit+1; n++ {
					v := p.At(t.Context(), s, f)
					if want := n > limit; (v.Action == Defer) != want {
						t.Errorf("stage %d, event %d: %+v", s, n, v)
					}
					if v := p.At(t.Context(), s, trusted); v.Action != Accept {
						t.Errorf("exempt client at stage %d: %+v", s, v)
					}
				}
			}
			time.Sleep(time.Minute)
		}
	})
}

// The table forgets clients, and holds a bounded number of them.
func TestClientTable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClients(Config{MaxMessages: 1, Window: time.Minute})
		addr := netip.MustParseAddr("198.18.0.0")
		for range maxClients + 10 {
			c.Check(t.Context(), Mail, &Facts{Addr: addr})
			addr = addr.Next()
		}
		if n := len(c.table); n != maxClients {
			t.Errorf("%d clients in the table", n)
		}
		c.Check(t.Context(), Connect, &Facts{Addr: netip.MustParseAddr("198.18.0.0")})
		time.Sleep(time.Minute)
		c.Check(t.Context(), Mail, &Facts{Addr: addr})
		if n := len(c.table); n != 2 {
			t.Errorf("%d clients in the table after the window, want the new one and the one that is connected", n)
		}
	})
}

func TestHelo(t *testing.T) {
	t.Parallel()
	cfg := Config{OwnNames: []string{"mx.corp.example", "corp.example", "[192.0.2.25]"}, HeloOwnName: ModeReject, HeloSyntax: ModeJunk,
		Exempt: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for _, tt := range []struct {
		helo, addr string
		login      bool
		want       Action
	}{
		{helo: "client.example", want: Accept},
		{helo: "client.example.", want: Accept},
		{helo: "[192.0.2.1]", want: Accept},
		{helo: "[IPv6:2001:db8::1]", want: Accept},
		{helo: "laptop", want: Accept},
		{helo: "under_score.example", want: Accept},
		{helo: "MX.corp.example", want: Reject},
		{helo: "corp.example", want: Reject},
		{helo: "[192.0.2.25]", want: Reject},
		{helo: "corp.example", addr: "127.0.0.1", want: Accept},
		{helo: "corp.example", login: true, want: Accept},
		{helo: "192.0.2.1", want: Junk},
		{helo: "my computer", want: Junk},
		{helo: "-", want: Junk},
	} {
		f := facts("192.0.2.1")
		if tt.addr != "" {
			f.Addr = netip.MustParseAddr(tt.addr)
		}
		if tt.login {
			f.Identity = &auth.Identity{}
		}
		f.Client.Helo, f.ReversePath = tt.helo, reverse("a@b.example")
		if v := New(cfg.Checks()...).At(t.Context(), Mail, f); v.Action != tt.want {
			t.Errorf("HELO %s: %+v", tt.helo, v)
		}
	}
}

func TestSenderAndRecipients(t *testing.T) {
	t.Parallel()
	p := New(Config{SenderSyntax: ModeReject, NullRecipients: 1}.Checks()...)
	for _, tt := range []struct {
		sender string
		want   Action
	}{
		{"", Accept}, {"a@b.example", Accept}, {"a@[192.0.2.1]", Accept}, {"a@localhost", Reject}, {"a@192.0.2.1", Reject}, {"a@b.123", Reject},
	} {
		f := facts("192.0.2.1")
		f.ReversePath = reverse(tt.sender)
		if v := p.At(t.Context(), Mail, f); v.Action != tt.want {
			t.Errorf("sender %q: %+v", tt.sender, v)
		}
	}
	for _, tt := range []struct {
		sender     string
		recipients int
		login      bool
		want       Action
	}{
		{"", 0, false, Accept}, {"", 1, false, Defer}, {"", 1, true, Accept}, {"a@b.example", 100, false, Accept},
	} {
		f := facts("192.0.2.1")
		f.ReversePath, f.Recipients = reverse(tt.sender), tt.recipients
		if tt.login {
			f.Identity = &auth.Identity{}
		}
		if v := p.At(t.Context(), Rcpt, f); v.Action != tt.want {
			t.Errorf("sender %q with %d recipients: %+v", tt.sender, tt.recipients, v)
		}
	}
}

// RFC 5321 §6.3: loops are found by counting Received fields.
func TestHops(t *testing.T) {
	t.Parallel()
	p := New(DefaultConfig().Checks()...)
	for received, want := range map[int]Action{0: Accept, 100: Accept, 101: Reject} {
		f := facts("192.0.2.1")
		f.Received = received
		if v := p.At(t.Context(), Content, f); v.Action != want || want == Reject && v.Status != envelope.StatusLoop {
			t.Errorf("%d fields: %+v", received, v)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []Config{{MaxHops: -1}, {Window: -1}, {MaxConnections: -1}} {
		if c.Validate() == nil {
			t.Errorf("%+v is taken for valid", c)
		}
	}
	var modes []Mode
	for _, text := range modeNames {
		var m Mode
		if err := m.UnmarshalText([]byte(text)); err != nil || m.String() != text {
			t.Errorf("%s is read as %v (%v)", text, m, err)
		}
		modes = append(modes, m)
	}
	if !slices.Equal(modes, []Mode{ModeOff, ModeJunk, ModeReject}) {
		t.Errorf("modes %v", modes)
	}
	if new(Mode).UnmarshalText([]byte("maybe")) == nil {
		t.Error("an unknown mode is taken")
	}
}
