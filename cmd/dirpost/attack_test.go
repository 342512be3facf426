package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// attack is what somebody does to our ports who wants to get in, or to lock
// everybody out.
type attack struct {
	accounts  int // of Active Directory; every third has a policy of 3, the others one of 5
	guesses   int // wrong logins, each password once
	addresses int // that they come from
	spray     int // passwords that are tried with every account, and with as many names that nobody has
	workers   int
	also      string // somebody else who is attacked, "" for nobody
}

// TestAttack: an attack on our ports locks no account of a real Active Directory,
// the people go on from where they were before, or by app passwords from anywhere,
// and an administrator sees it.
func TestAttack(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	checkAttack(s, s.joinAD(), attack{accounts: 12, guesses: 1500, addresses: 50, spray: 5, workers: 16})
}

// checkAttack makes an attack on people of a unit of a domain, beside which others
// must be let in.
func checkAttack(s *system, ad *domain, a attack, others ...func() error) {
	t := s.t
	s.change("failure_time = \"50ms\"", "failure_time = \"2ms\"\nremember = \"0s\"")
	s.change(fmt.Sprintf("address = %q\n", s.addr["imaps"]), fmt.Sprintf("proxies = [\"127.0.0.0/8\"]\naddress = %q\n", s.addr["imaps"]))
	var people, dns, strict []string
	for i := range a.accounts {
		dn, address := ad.person(fmt.Sprint("p", i))
		people, dns = append(people, address), append(dns, dn)
		if i%3 == 0 {
			strict = append(strict, dn)
		}
	}
	ad.lockAt(3, strict...)
	s.confirm()
	s.start()
	v := &victims{system: s, domain: ad, dns: dns}

	home := func(i int) string { return fmt.Sprintf("192.0.2.%d", 1+i%250) }
	for i, who := range people { // they were there before
		s.eventually(who+" logs in", func() bool { return v.login(home(i), who, ad.s.UserPassword) })
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var entered atomic.Int64
	var watch sync.WaitGroup
	watch.Go(func() { // and go on
		for i := 0; ctx.Err() == nil; i++ {
			n := i % len(people)
			if v.login(fmt.Sprintf("192.0.2.%d", 1+rand.IntN(250)), people[n], ad.s.UserPassword) {
				entered.Add(1)
			} else if ctx.Err() == nil {
				t.Errorf("%s is not let in from home", people[n])
			}
			v.look()
		}
	})
	var more atomic.Int64
	phone := s.appPassword(people[0], "--name", "Phone").Password
	others = append(others, func() error { // from anywhere
		if !v.login(fmt.Sprintf("203.0.113.%d", 1+rand.IntN(250)), people[0], phone) && ctx.Err() == nil {
			return fmt.Errorf("%s is not let in by an app password", people[0])
		}
		return nil
	})
	for _, enter := range others {
		watch.Go(func() {
			for ctx.Err() == nil {
				if err := enter(); err != nil {
					t.Error(err)
				}
				more.Add(1)
			}
		})
	}
	start := time.Now()
	targets := people
	if a.also != "" {
		targets = append(slices.Clone(people), a.also)
	}
	in := v.guess(a, targets)
	took := time.Since(start)
	cancel()
	watch.Wait()
	v.look()

	if in > 0 {
		t.Errorf("%d wrong logins were let in", in)
	}
	if v.locked > 0 || v.most[0] >= 5 || v.most[1] >= 3 {
		t.Errorf("%d accounts are locked; the domain has counted %d wrong passwords where 5 lock and %d where 3 do", v.locked, v.most[0], v.most[1])
	}
	if entered.Load() < 5 {
		t.Errorf("the people logged in %d times", entered.Load())
	}
	binds := s.count(`dirpost_auth_permits_total{outcome="granted"}`)
	if limit := float64(a.guesses) / 4; binds-float64(entered.Load()) > limit {
		t.Errorf("the domain was asked %v times, by guesses more than %v", binds, limit)
	}
	t.Logf("%d wrong logins in %v from %d addresses, %d accounts: domain asked %v times, most counted %d of 5 and %d of 3, locked %d; people logged in %d times from home, %d times otherwise",
		v.tried.Load(), took.Round(time.Second), a.addresses, a.accounts, binds, v.most[0], v.most[1], v.locked, entered.Load(), more.Load())
	s.checkTop(a)
}

// count is the value of a metric of the node.
func (s *system) count(name string) float64 {
	s.t.Helper()
	n, err := strconv.ParseFloat(s.metric(name), 64)
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	return n
}

// checkTop checks that `dirpost auth top` shows the attack.
func (s *system) checkTop(a attack) {
	s.t.Helper()
	top := func(args ...string) string {
		var out, log bytes.Buffer
		if code := run(s.t.Context(), append([]string{"dirpost", "--config", s.config, "auth", "top"}, args...), streams{nil, &out, &log}); code != 0 {
			s.t.Fatalf("auth top: %d, %s", code, log.String())
		}
		return out.String()
	}
	var seen struct {
		Attack   bool
		Permits  struct{ Used, Exhausted int }
		Sources  []struct{ Wrong, Refused int }
		Accounts []struct {
			Address        string
			Tried, Refused int
		}
		Sprayed []struct {
			Accounts, Tries int
			Refused         bool
		}
	}
	s.eventually("auth top shows the attack", func() bool {
		if err := json.Unmarshal([]byte(top("--json", "--lines", "1000")), &seen); err != nil {
			s.t.Fatal(err)
		}
		refused := 0
		for _, p := range seen.Sprayed {
			if p.Refused && p.Accounts >= 10 {
				refused++
			}
		}
		return seen.Attack && len(seen.Sources) >= a.addresses && len(seen.Accounts) > a.accounts && refused >= a.spray
	})
	text := top("--once", "--lines", "15")
	for _, words := range []string{"Attack: strangers are slowed.", "198.18.", "refused to strangers"} {
		if !strings.Contains(text, words) {
			s.t.Errorf("auth top does not say %q", words)
		}
	}
	s.t.Log("\n" + text)
	contains(s.t, s.command(0, "auth", "unblock", "198.18.0.0/15"), fmt.Sprintf("198.18.0.0/15: %d clients may try again.", a.addresses))
	contains(s.t, s.command(0, "auth", "unblock", seen.Accounts[0].Address), seen.Accounts[0].Address+" has all permits again.")
	s.command(1, "auth", "unblock", "nobody at all")
}

// lockAt gives people a fine-grained policy that locks after n wrong passwords.
func (d *domain) lockAt(n int, dns ...string) {
	d.t.Helper()
	dn := "CN=" + d.name + ",CN=Password Settings Container,CN=System," + d.s.Base
	d.add(dn, map[string][]string{
		"objectClass": {"msDS-PasswordSettings"}, "msDS-PasswordSettingsPrecedence": {"5"}, "msDS-PasswordReversibleEncryptionEnabled": {"FALSE"},
		"msDS-PasswordHistoryLength": {"0"}, "msDS-PasswordComplexityEnabled": {"TRUE"}, "msDS-MinimumPasswordLength": {"7"},
		"msDS-MinimumPasswordAge": {"0"}, "msDS-MaximumPasswordAge": {"-9223372036854775808"}, "msDS-LockoutThreshold": {fmt.Sprint(n)},
		"msDS-LockoutObservationWindow": {"-18000000000"}, "msDS-LockoutDuration": {"-18000000000"}, "msDS-PSOAppliesTo": dns,
	})
	d.t.Cleanup(func() { _ = d.Del(ldap.NewDelRequest(dn, nil)) })
}

// victims are the people whose passwords are guessed.
type victims struct {
	*system
	domain *domain
	dns    []string
	tried  atomic.Int64

	// What look has seen.
	locked int
	most   [2]int // of people of the domain's rule, and of the strict policy
}

// look reads what the domain counts.
func (v *victims) look() {
	v.t.Helper()
	res, err := v.domain.Search(ldap.NewSearchRequest(v.domain.base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=user)", []string{"badPwdCount", "lockoutTime"}, nil))
	if err != nil {
		v.t.Error(err)
		return
	}
	v.locked = 0
	for _, e := range res.Entries {
		kind := 0
		for i := 0; i < len(v.dns); i += 3 {
			if strings.EqualFold(v.dns[i], e.DN) {
				kind = 1
			}
		}
		n, _ := strconv.Atoi(e.GetAttributeValue("badPwdCount"))
		v.most[kind] = max(v.most[kind], n)
		if at := e.GetAttributeValue("lockoutTime"); at != "" && at != "0" {
			v.locked++
		}
	}
}

// guess makes the attack, and returns how many of its logins were let in.
func (v *victims) guess(a attack, people []string) (in int64) {
	type try struct{ who, password string }
	tries := make(chan []try)
	var entered, next atomic.Int64
	var wg sync.WaitGroup
	for range a.workers {
		wg.Go(func() {
			for batch := range tries {
				n := int(next.Add(1)) % a.addresses
				from := fmt.Sprintf("198.18.%d.%d", n/250, 1+n%250)
				s := v.dial(from)
				for _, one := range batch {
					in, err := s.login(one.who, one.password)
					if err != nil {
						v.t.Errorf("%s is not answered: %v", from, err)
						break
					}
					v.tried.Add(1)
					if in {
						entered.Add(1)
					}
				}
				s.Close()
			}
		})
	}
	const perConnection = 10
	var batch []try
	add := func(one try) {
		if batch = append(batch, one); len(batch) == perConnection {
			tries <- batch
			batch = nil
		}
	}
	for i := range a.spray {
		for n, who := range people {
			add(try{who, fmt.Sprint("Summer", 2000+i)})
			add(try{fmt.Sprintf("nobody%d@corp.example", n), fmt.Sprint("Summer", 2000+i)})
		}
	}
	for i := range a.guesses {
		add(try{people[rand.IntN(len(people))], fmt.Sprint("guess", i)})
	}
	if len(batch) > 0 {
		tries <- batch
	}
	close(tries)
	wg.Wait()
	return entered.Load()
}

// login logs in once from an address.
func (v *victims) login(from, who, password string) bool {
	s := v.dial(from)
	defer s.Close()
	in, err := s.login(who, password)
	return in && err == nil
}

// guesser is a connection that logs in by IMAP.
type guesser struct {
	net.Conn
	r *bufio.Reader
}

// sessions are kept, so that a thousand clients need no handshake each: those of the
// attackers by themselves, since who resumes a session is the same device.
var sessions, theirs = tls.NewLRUClientSessionCache(64), tls.NewLRUClientSessionCache(64)

// dial connects as a client of an address, by a proxy.
func (v *victims) dial(from string) *guesser {
	conn, err := net.Dial("tcp", v.addr["imaps"])
	if err != nil {
		v.t.Error(err)
		return nil
	}
	c := v.tls()
	if c.ClientSessionCache = sessions; strings.HasPrefix(from, "198.18.") {
		c.ClientSessionCache = theirs
	}
	fmt.Fprintf(conn, "PROXY TCP4 %s 192.0.2.1 40000 993\r\n", from)
	s := tls.Client(conn, c)
	g := &guesser{s, bufio.NewReader(s)}
	_, _ = g.r.ReadString('\n') // the greeting, or what login will meet
	return g
}

// Close hangs up.
func (g *guesser) Close() {
	if g != nil {
		_ = g.Conn.Close()
	}
}

// login reports whether a password lets in. An error means that nobody said so.
func (g *guesser) login(who, password string) (bool, error) {
	if g == nil {
		return false, net.ErrClosed
	}
	fmt.Fprintf(g.Conn, "a LOGIN %q %q\r\n", who, password)
	for {
		line, err := g.r.ReadString('\n')
		if err != nil {
			return false, err
		}
		if word, ok := strings.CutPrefix(line, "a "); ok {
			return strings.HasPrefix(word, "OK"), nil
		}
	}
}
