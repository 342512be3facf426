//go:build acceptance

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// leavers is how many people leave each directory.
const leavers = 120

// leaver is somebody whose session waits to be ended.
type leaver struct {
	login string
	leave func() error // the change in the directory
	how   string
}

// TestAcceptanceOffboarding measures the time from a change in the directory to the
// BYE at a client in IDLE, on two nodes of which one reads the directories: people are
// disabled, expire, are deleted or lose the protocol, in a real OpenLDAP and a real
// Active Directory.
func TestAcceptanceOffboarding(t *testing.T) {
	a := newSystem(t, "")
	ad := a.joinAD()
	here, there := a.openLDAPLeavers(t), ad.leavers()
	a.confirm()
	b := a.sibling()
	a.process()
	a.awaitServing(t) // it reads the directories
	b.process()
	b.awaitServing(t)
	nodes := []*system{a, b}
	for _, n := range nodes {
		n.eventually("everybody is known", func() bool {
			for _, l := range []leaver{here[len(here)-1], there[len(there)-1]} {
				w := n.dialTLS("imaps")
				w.until("* OK")
				_, err := fmt.Fprintf(w.conn, "a LOGIN %s \"%s\"\r\n", l.login, ad.passwordOf(l, a))
				line, rerr := w.r.ReadString('\n')
				_ = w.conn.Close()
				if err != nil || rerr != nil || !strings.HasPrefix(line, "a OK") {
					return false
				}
			}
			return true
		})
	}
	for _, d := range []struct {
		name    string
		leavers []leaver
	}{{"OpenLDAP, syncrepl", here}, {"Samba AD, DirSync", there}} {
		t.Run(d.name, func(t *testing.T) {
			sessions := make([]*wire, len(d.leavers))
			for i, l := range d.leavers {
				sessions[i] = nodes[i%2].inbox(l.login, ad.passwordOf(l, a))
				sessions[i].say("c IDLE\r\n", "+")
			}
			took := map[string][]time.Duration{}
			for i, l := range d.leavers {
				told := make(chan time.Time, 1)
				go func() {
					for {
						line, err := sessions[i].r.ReadString('\n')
						if err != nil || strings.HasPrefix(line, "* BYE ") {
							told <- time.Now()
							return
						}
					}
				}()
				start := time.Now()
				if err := l.leave(); err != nil {
					t.Fatalf("%s, %s: %v", l.login, l.how, err)
				}
				select {
				case at := <-told:
					took["all"], took[l.how] = append(took["all"], at.Sub(start)), append(took[l.how], at.Sub(start))
				case <-time.After(time.Minute):
					t.Fatalf("%s, %s: the session goes on", l.login, l.how)
				}
			}
			for _, how := range []string{"all", "disabled", "expired", "protocol", "deleted"} {
				if len(took[how]) > 0 {
					t.Logf("%s: %-8s n=%-3d p50 %v p90 %v p99 %v max %v", d.name, how, len(took[how]),
						percentile(took[how], 50), percentile(took[how], 90), percentile(took[how], 99), percentile(took[how], 100))
				}
			}
		})
	}
}

// percentile is the p-th one of list, by the nearest rank.
func percentile(list []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[max(0, (len(sorted)*p+99)/100-1)].Round(time.Millisecond)
}

// openLDAPLeavers adds people to slapd.
func (s *system) openLDAPLeavers(t *testing.T) (all []leaver) {
	t.Helper()
	conn := s.admin()
	for i := range leavers {
		uid := fmt.Sprintf("leaver%03d", i)
		dn := s.person(uid)
		add := ldap.NewAddRequest(dn, nil)
		for name, value := range map[string]string{"uid": uid, "cn": uid, "sn": uid, "mail": uid + "@corp.example", "userPassword": s.slapd.UserPassword} {
			add.Attribute(name, []string{value})
		}
		add.Attribute("objectClass", []string{"inetOrgPerson", "dirpostMailbox"})
		if err := conn.Add(add); err != nil {
			t.Fatal(err)
		}
		set := func(name, value string) func() error {
			return func() error {
				m := ldap.NewModifyRequest(dn, nil)
				m.Replace(name, []string{value})
				return conn.Modify(m)
			}
		}
		l := leaver{login: uid, how: "disabled", leave: set("dirpostEnabled", "nologin")}
		switch {
		case i%20 == 0: // few: when many vanish at once nobody believes it
			l.how, l.leave = "deleted", func() error { return conn.Del(ldap.NewDelRequest(dn, nil)) }
		case i%4 == 1:
			l.how, l.leave = "protocol", set("dirpostService", "pop3")
		}
		all = append(all, l)
	}
	return all
}

// leavers adds people to Active Directory.
func (d *domain) leavers() (all []leaver) {
	d.t.Helper()
	for i := range leavers {
		dn, address := d.person(fmt.Sprintf("leaver%03d", i))
		set := func(name, value string) func() error {
			return func() error {
				m := ldap.NewModifyRequest(dn, nil)
				m.Replace(name, []string{value})
				return d.Modify(m)
			}
		}
		l := leaver{login: address, how: "disabled", leave: set("userAccountControl", "514")}
		switch {
		case i%20 == 0:
			l.how, l.leave = "deleted", func() error { return d.Del(ldap.NewDelRequest(dn, nil)) }
		case i%4 == 1:
			l.how, l.leave = "expired", set("accountExpires", fmt.Sprint((time.Now().Add(-time.Hour).Unix()+11644473600)*1e7))
		}
		all = append(all, l)
	}
	return all
}

// passwordOf is the password of a person of either directory.
func (d *domain) passwordOf(l leaver, s *system) string {
	if strings.Contains(l.login, "@") {
		return d.s.UserPassword
	}
	return s.slapd.UserPassword
}
