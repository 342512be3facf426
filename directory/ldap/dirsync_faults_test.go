package ldap

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

// allowDeleted lets an account read the container of deleted entries, as the
// documentation says: D:PAI(A;;…;;;SY)(A;;…;;;BA)(A;;RPLCRC;;;SID).
func allowDeleted(t testing.TB, u *adUnit, account string) {
	t.Helper()
	res, err := u.Search(ldap.NewSearchRequest(account, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"objectSid"}, nil))
	must(t, err)
	system := []byte{1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0}
	admins := []byte{1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0}
	// [MS-DTYP] §2.4.4.2, §2.4.5, §2.4.6.
	var aces []byte
	for _, one := range []struct {
		sid  []byte
		mask uint32
	}{{system, 0xf003f}, {admins, 0xf003f}, {res.Entries[0].GetRawAttributeValue("objectSid"), 0x20014}} {
		aces = binary.LittleEndian.AppendUint16(append(aces, 0, 0), uint16(8+len(one.sid)))
		aces = append(binary.LittleEndian.AppendUint32(aces, one.mask), one.sid...)
	}
	sd := []byte{1, 0, 0x04, 0x94, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0}
	sd = binary.LittleEndian.AppendUint16(append(sd, 4, 0), uint16(8+len(aces)))
	sd = append(append(sd, 3, 0, 0, 0), aces...)
	owner := append([]byte{1, 0, 0, 0x80, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, admins...)
	for _, part := range []struct {
		flag int32
		sd   []byte
	}{{1, owner}, {4, sd}} {
		req := ldap.NewModifyRequest("CN=Deleted Objects,"+u.s.Base, []ldap.Control{
			&ldap.ControlMicrosoftSDFlags{Criticality: true, ControlValue: part.flag}, ldap.NewControlMicrosoftShowDeleted(),
		})
		req.Replace("nTSecurityDescriptor", []string{string(part.sd)})
		must(t, u.Modify(req))
	}
}

// TestDirSyncDeletionsTold: an account that may see deleted entries is told of them,
// and of the groups that lose a member.
func TestDirSyncDeletionsTold(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	account := "CN=svc" + u.name + "," + u.s.Base
	u.add(account, map[string][]string{"objectClass": {"user"}, "sAMAccountName": {"s" + u.name}, "userAccountControl": {"512"}, "unicodePwd": {unicodePwd(u.s.ServicePass)}})
	allowDeleted(t, u, account)
	u.del(u.person("gone")) // something that can be seen
	u.cfg.BindDN, u.cfg.BindPassword = account, u.s.ServicePass
	u.cfg.PollEvery = time.Hour
	alice, bob := u.person("alice"), u.person("bob")
	list := u.group("list", alice, bob)
	db := testenv.Database(t)
	n := start(t, db, &hints{}, client(t, u.cfg))
	n.until(t, "all", u.memberIs("list", alice, bob))
	u.del(alice)
	n.until(t, "deleted", u.homeIs("alice", "left"))
	n.until(t, "no member any more", u.memberIs("list", bob))
	u.del(list)
	n.until(t, "list deleted", u.homeIs("list", "nobody"))
	n.until(t, "status", func(*directory.Snapshot) bool {
		reports, err := directory.Reports(t.Context(), db)
		must(t, err)
		time.AfterFunc(100*time.Millisecond, n.hint)
		return len(reports) == 1 && reports[0].Status != nil && reports[0].Status.Deletions == DeletionsTold
	})
}

// tcpProxy is a way to a server that can be blocked.
type tcpProxy struct {
	address string
	most    atomic.Int64 // how many connections are let through
	silent  atomic.Bool  // nothing passes any more, and nobody says so

	mu    sync.Mutex
	conns []net.Conn
}

func newTCPProxy(t testing.TB, to string, most int64) *tcpProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &tcpProxy{address: l.Addr().String()}
	p.most.Store(most)
	t.Cleanup(func() { _ = l.Close(); p.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if p.most.Add(-1) < 0 {
				_ = c.Close()
				continue
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, c, s)
			p.mu.Unlock()
			go p.copy(s, c)
			go p.copy(c, s)
		}
	}()
	return p
}

func (p *tcpProxy) copy(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && !p.silent.Load() {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err == io.EOF {
				_ = to.Close()
			}
			return
		}
	}
}

// cut breaks all connections.
func (p *tcpProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// TestDirSyncFaults: a network that lets no second connection through, breaks
// connections or swallows everything loses no change.
func TestDirSyncFaults(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	alice := u.person("alice")
	p := newTCPProxy(t, strings.TrimPrefix(u.s.TLSURL, "ldaps://")+":636", 1)
	u.cfg.URLs = []string{"ldaps://" + p.address}
	u.cfg.ConnectTimeout, u.cfg.Timeout = 5*time.Second, 5*time.Second
	n := start(t, testenv.Database(t), &hints{}, client(t, u.cfg))
	n.untilComplete(t)
	modify(t, u.Conn, alice, "mail", u.address("asked"))
	n.until(t, "seen without notification", u.homeIs("asked", "here"))

	p.most.Store(1 << 40)
	p.cut()
	modify(t, u.Conn, alice, "mail", u.address("broken"))
	n.until(t, "seen after a break", u.homeIs("broken", "here"))

	p.silent.Store(true)
	modify(t, u.Conn, alice, "mail", u.address("swallowed"))
	n.until(t, "known to be away", (*directory.Snapshot).Stale)
	if home(n.live.Snapshot(), u.address("broken")) != "here" {
		t.Error("alice is gone while the domain controller is away")
	}
	p.silent.Store(false)
	n.until(t, "seen after silence", func(s *directory.Snapshot) bool { return !s.Stale() && u.homeIs("swallowed", "here")(s) })
}

// TestDirSyncLimits: a domain controller that gives pages of seven and six values at
// a time changes nothing.
func TestDirSyncLimits(t *testing.T) {
	t.Parallel()
	u := newADUnit(t)
	small := testenv.WindowsBehaviour()
	small.MaxPageSize, small.MaxValRange = 7, 6
	_, cfg := proxied(t, small)
	cfg.Base, cfg.Follow = u.base, FollowDirSync
	team := "OU=team," + u.base
	u.unit(team)
	var people []string
	for i := range 20 {
		people = append(people, u.person(fmt.Sprintf("p%d", i), team))
	}
	u.group("all", people...)
	n := startWith(t, testenv.Database(t), &hints{}, client(t, cfg), unbraked())
	n.until(t, "all", u.memberIs("all", people...))
	for i, dn := range people {
		modify(t, u.Conn, dn, "mail", u.address(fmt.Sprintf("q%d", i)))
	}
	n.until(t, "a burst", func(s *directory.Snapshot) bool {
		for i := range people {
			if !u.homeIs(fmt.Sprintf("q%d", i), "here")(s) {
				return false
			}
		}
		return true
	})
	u.rename(team, "OU=crew", "")
	for i := range people {
		people[i] = fmt.Sprintf("CN=p%d,OU=crew,%s", i, u.base)
	}
	n.until(t, "all of them moved", u.memberIs("all", people...))
	u.del(people[0])
	n.until(t, "one less", u.memberIs("all", people[1:]...))
}
