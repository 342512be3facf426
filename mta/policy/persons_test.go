package policy

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"dirpost/auth"
	"dirpost/directory"
	"dirpost/internal/envelope"
)

func login(addr, name string) *Facts {
	f := facts(addr)
	a, err := envelope.ParseAddress(name + "@corp.example")
	if err != nil {
		panic(err)
	}
	f.Identity = &auth.Identity{Person: directory.Key("corp:" + name), Address: a}
	return f
}

// TestPersonRates: a person has so many messages and recipients in a window,
// from whatever address they come; others, exempt people and exempt clients do not
// suffer, and a new window begins at nothing.
func TestPersonRates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := PersonConfig{MaxMessages: 2, MaxRecipients: 3, Window: time.Hour,
			ExemptPeople: []envelope.Address{login("192.0.2.1", "News").Identity.Address}, Exempt: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		p := New(c.Check())
		at := func(s Stage, f *Facts, want Action) {
			t.Helper()
			v := p.At(t.Context(), s, f)
			if v.Action != want || want == Defer && (v.Status.Code != 450 || v.Status.Enhanced != "4.7.1" || v.Check != "person") {
				t.Errorf("stage %d of %+v: %+v, want action %d", s, f.Identity, v, want)
			}
		}
		at(Mail, login("192.0.2.1", "alice"), Accept)
		at(Mail, login("192.0.2.2", "alice"), Accept)
		at(Mail, login("192.0.2.3", "alice"), Defer)
		at(Mail, login("192.0.2.3", "bob"), Accept)
		at(Mail, facts("192.0.2.3"), Accept) // before AUTH an MSA takes no mail
		for range 3 {
			at(Rcpt, login("192.0.2.1", "alice"), Accept)
		}
		at(Rcpt, login("192.0.2.1", "alice"), Defer)
		for range 5 {
			at(Mail, login("192.0.2.1", "news"), Accept)
			at(Rcpt, login("198.51.100.7", "alice"), Accept)
		}
		time.Sleep(time.Hour)
		at(Mail, login("192.0.2.1", "alice"), Accept)
		at(Rcpt, login("192.0.2.1", "alice"), Accept)
		if n := len(p.at[Mail][0].(*persons).table); n != 1 {
			t.Errorf("%d people are remembered, want 1", n)
		}
	})
	if err := DefaultPersonConfig().Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []PersonConfig{{MaxMessages: -1}, {MaxRecipients: -1}, {Window: -1}} {
		if c.Validate() == nil {
			t.Errorf("%+v is taken for valid", c)
		}
	}
	unlimited := New(PersonConfig{}.Check())
	for range 10000 {
		if v := unlimited.At(t.Context(), Mail, login("192.0.2.1", "alice")); v.Action != Accept {
			t.Fatalf("without limits: %+v", v)
		}
	}
}
