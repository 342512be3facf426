package gssapi

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/types"

	"dirpost/internal/testenv"
)

func initiator(t testing.TB, s *testenv.ADServer, change func(*Account)) *Initiator {
	t.Helper()
	a := Account{Principal: s.Service, Realm: s.Realm, Keytab: s.Keytab, KDCs: []string{net.JoinHostPort(s.Address, "88")}}
	change(&a)
	i, err := NewInitiator(a)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// wait bounds a test that hangs, generously: the machine may be busy.
const wait = time.Minute

// TestKDC: a real KDC gives tickets, and each of its refusals says what to mend.
func TestKDC(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	key := func(name string) func(*Account) {
		return func(a *Account) { a.Principal, a.Keytab = name, keytabOf(entryOf(name, 1, 18, 32)) }
	}
	tests := []struct {
		name    string
		account func(*Account)
		host    string
		ahead   time.Duration // of our clock
		want    string        // part of the error, "" for none
	}{
		{"wrong key", key(s.Service), s.Host, 0, "the key in the keytab is not that of the account"},
		{"right key", func(*Account) {}, s.Host, 0, ""}, // and the wrong one is forgotten
		{"case of the names", func(a *Account) { a.Principal, a.Realm = strings.ToUpper(a.Principal), strings.ToLower(a.Realm) }, strings.ToUpper(s.Host), 0, ""},
		{"clock a little off", func(*Account) {}, s.Host, 2 * time.Minute, ""},
		{"clock ahead", func(*Account) {}, s.Host, 11 * time.Minute, "ahead of that of the KDC, and at most 5m0s are allowed: set the clock"},
		{"clock behind", func(*Account) {}, s.Host, -11 * time.Minute, "behind that of the KDC"},
		{"unknown host", func(*Account) {}, "dc9.corp.example", 0, "the host must be named as in the realm"},
		{"unknown account", key("nobody"), s.Host, 0, "correct principal or realm"},
		{"disabled account", func(a *Account) {
			e := entryOf("dave", 1, 18, 32)
			e.key, _, _ = crypto.GetKeyFromPassword(s.UserPassword, types.PrincipalName{NameString: e.components}, s.Realm, 18, nil)
			a.Principal, a.Keytab = "dave", keytabOf(e)
		}, s.Host, 0, "disabled, locked or expired"},
		{"second KDC", func(a *Account) { a.KDCs = []string{"127.0.0.1:1", a.KDCs[0]} }, s.Host, 0, ""},
		{"no KDC", func(a *Account) { a.KDCs = []string{"127.0.0.1:1"} }, s.Host, 0, "KDC 127.0.0.1:1:"},
	}
	for _, tt := range tests { // one after the other: wrong keys are counted
		i := initiator(t, s, tt.account)
		i.now = func() time.Time { return time.Now().Add(tt.ahead) }
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		x, err := i.Initiate(ctx, "ldap", tt.host)
		cancel()
		switch {
		case tt.want == "" && (err != nil || len(x.Token) == 0):
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		var refused *RefusedError
		if skew := tt.ahead.Abs() > maxSkew; skew && (!errors.As(err, &refused) || (refused.Skew-tt.ahead).Abs() > wait) {
			t.Errorf("%s: the error does not say by how much: %v", tt.name, err)
		}
	}
}

// TestTicketIsKept: a ticket serves again until shortly before its end, or until
// a server has refused it.
func TestTicketIsKept(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	i := initiator(t, s, func(*Account) {})
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	get := func() []byte {
		t.Helper()
		k, err := i.ticket(ctx, "ldap", s.Host)
		if err != nil {
			t.Fatal(err)
		}
		return k.EncPart.Cipher
	}
	first := get()
	if !bytes.Equal(get(), first) {
		t.Error("a new ticket, although the first is good")
	}
	i.now = func() time.Time { return time.Now().Add(4 * time.Minute) } // as far as the KDC plays along
	k := i.tickets["ldap/"+s.Host]
	k.end = time.Now().Add(8 * time.Minute)
	i.tickets["ldap/"+s.Host] = k
	second := get()
	if bytes.Equal(second, first) {
		t.Error("the old ticket, although it is about to end")
	}
	i.Forget("ldap", s.Host)
	if bytes.Equal(get(), second) {
		t.Error("the old ticket, although it was refused")
	}
}

// TestHostileKDC: a KDC that says nothing, too much or half of it ends with the
// context, and takes no memory.
func TestHostileKDC(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string][]byte{
		"silent":   nil,
		"absurd":   {0xff, 0xff, 0xff, 0xff},
		"nothing":  {0, 0, 0, 0},
		"half":     {0, 0, 0, 100, 1, 2, 3},
		"nonsense": {0, 0, 0, 3, 1, 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					t.Cleanup(func() { _ = c.Close() })
					_, _ = c.Write(reply)
				}
			}()
			i, err := NewInitiator(Account{Principal: "a", Realm: "CORP.EXAMPLE", Keytab: keytabOf(entryOf("a", 1, 18, 32)), KDCs: []string{l.Addr().String()}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if _, err := i.Initiate(ctx, "ldap", "dc1.corp.example"); err == nil {
				t.Error("a ticket")
			}
		})
	}
}
