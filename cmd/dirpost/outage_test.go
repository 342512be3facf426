package main

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/postgres"

	"github.com/emersion/go-smtp"
	"github.com/go-ldap/ldap/v3"
)

// outageClients send at the same time.
const outageClients = 4

// outage is the load of an outage of the directory, and what became of it.
type outage struct {
	s       *system
	known   []string
	pause   time.Duration
	next    atomic.Int64 // number of the next message
	counts  sync.Mutex   // guards what follows
	want    map[string]int
	unknown map[int]int // answers to unknown recipients, by code
	other   map[int]int // answers to known ones that are not 250
}

// TestDirectoryOutage: see checkOutage. The acceptance suite has the long one.
func TestDirectoryOutage(t *testing.T) {
	t.Parallel()
	checkOutage(t, time.Second, 0)
}

// checkOutage stops the directory under load for twice a time: mail for everybody who
// is known is taken and delivered, for unknown people it waits, nothing is returned; a
// node that is started meanwhile goes on from the replica; and when the directory is
// back a comparison finds no difference. Each client waits for pause between messages.
func checkOutage(t *testing.T, span, pause time.Duration) {
	s := newSystem(t, "")
	stop := s.start()
	o := &outage{s: s, pause: pause, want: map[string]int{}, unknown: map[int]int{}, other: map[int]int{}}
	for e := range s.node.live.Snapshot().All() {
		if s.node.live.Snapshot().Keeps(e) && len(e.Forward) == 0 {
			o.known = append(o.known, e.Primary.String())
		}
	}
	slices.Sort(o.known)
	s.slapd.Stop()
	s.eventually("unknown recipients are deferred", func() bool { return s.sendTo("nobody@corp.example", "x") == 451 })
	o.load(t, span)
	first := s.node.live.Snapshot()
	stop()

	s.startAway()
	if got := s.node.live.Snapshot(); got.Version() != first.Version() || got.Len() != first.Len() || !got.Stale() {
		t.Errorf("started afresh with version %d and %d entries, want %d and %d", got.Version(), got.Len(), first.Version(), first.Len())
	}
	o.load(t, span)
	if out := s.command(1, "directory", "status"); !strings.Contains(out, "away") || !strings.Contains(out, "problem") {
		t.Errorf("status: %s", out)
	}
	s.slapd.Start(t)
	s.eventually("unknown recipients are refused again", func() bool { return s.sendTo("nobody@corp.example", "x") == 550 })
	if out := s.command(0, "directory", "sync"); !strings.Contains(out, "corp: compared, 0 changes found") {
		t.Errorf("comparison: %s", out)
	}
	if got := s.node.live.Snapshot(); got.Version() != first.Version() {
		t.Errorf("version %d, want %d: nothing has changed", got.Version(), first.Version())
	}
	o.check(t)
}

// load sends to known and unknown recipients for a time.
func (o *outage) load(t *testing.T, span time.Duration) {
	end := time.Now().Add(span)
	var clients sync.WaitGroup
	for range outageClients {
		clients.Go(func() {
			for time.Now().Before(end) {
				o.send(t, int(o.next.Add(1)))
				time.Sleep(o.pause)
			}
		})
	}
	clients.Wait()
}

// send sends message i; every tenth is for somebody who does not exist.
func (o *outage) send(t *testing.T, i int) {
	to := o.known[i%len(o.known)]
	if i%10 == 0 {
		to = fmt.Sprintf("nobody%d@corp.example", i)
	}
	err := o.s.deliver("friend@partner.example", []string{to}, fmt.Sprintf("From: friend@partner.example\r\nSubject: outage %d\r\nMessage-ID: <outage-%d@partner.example>\r\n\r\nx\r\n", i, i))
	code := 250
	var reply *smtp.SMTPError
	if errors.As(err, &reply) {
		code = reply.Code
	} else if err != nil {
		t.Errorf("message %d: %v", i, err)
		return
	}
	o.counts.Lock()
	defer o.counts.Unlock()
	switch {
	case i%10 == 0:
		o.unknown[code]++
	case code == 250:
		o.want[to]++
	default:
		o.other[code]++
	}
}

const deliveredSQL = `
select k.directory_key, count(*)
  from mailbox_message m
  join account_key k using (account_id)
 group by k.directory_key`

// check counts what was delivered, and what waits or was returned.
func (o *outage) check(t *testing.T) {
	t.Helper()
	db := o.s.node.db
	rows, err := db.Query(t.Context(), postgres.Background, deliveredSQL)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Key string
		N   int
	}
	delivered, err := postgres.CollectRows[row](rows)
	if err != nil {
		t.Fatal(err)
	}
	got, sum := map[string]int{}, 0
	for _, r := range delivered {
		got[o.s.node.live.Snapshot().ByKey(directory.Key(r.Key)).Primary.String()] = r.N
		sum += r.N
	}
	var queued int
	if err := db.QueryRow(t.Context(), postgres.Background, "select count(*) from outq").Scan(&queued); err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for _, n := range o.want {
		accepted += n
	}
	t.Logf("%d messages for %d known people accepted, %d delivered, %d in the queue; other answers %v; for unknown people %v", accepted, len(o.want), sum, queued, o.other, o.unknown)
	if !maps.Equal(got, o.want) || queued != 0 || len(o.other) != 0 {
		t.Errorf("delivered %v, accepted %v, in the queue %d, other answers %v", got, o.want, queued, o.other)
	}
	if len(o.unknown) != 1 || o.unknown[451] == 0 {
		t.Errorf("answers for unknown people %v, want 451", o.unknown)
	}
}

// TestMailboxStaysWithEntry does at random what administrators do to entries: rename,
// move, give new addresses, delete and restore. Whatever happens, each message is in
// the mailbox of the entry that had the address, and nowhere else.
func TestMailboxStaysWithEntry(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	l := &lives{s: newSystem(t, ""), rand: rand.New(rand.NewPCG(seed, 0))}
	l.s.start()
	l.conn = l.s.admin()
	for _, ou := range []string{"berlin", "香港"} {
		add := ldap.NewAddRequest("ou="+ou+",ou=people,"+l.s.slapd.Base, nil)
		add.Attribute("objectClass", []string{"organizationalUnit"})
		add.Attribute("ou", []string{ou})
		if err := l.conn.Add(add); err != nil {
			t.Fatal(err)
		}
		l.units = append(l.units, "ou="+ou+",ou=people,"+l.s.slapd.Base)
	}
	l.units = append(l.units, "ou=people,"+l.s.slapd.Base)
	for _, uid := range []string{"bob", "carol", "erik", "olga", "zoe"} {
		l.people = append(l.people, &life{dn: l.s.person(uid), key: "corp:" + l.s.uuid(uid), address: uid + "@corp.example"})
	}
	for i := range 60 {
		p := l.people[l.rand.IntN(len(l.people))]
		l.change(t, i, p)
		l.mail(t, i, p)
	}
	want, got := map[string]int{}, map[string]int{}
	for _, p := range l.people {
		want[p.key] = p.messages
	}
	rows, err := l.s.node.db.Query(t.Context(), postgres.Background, deliveredSQL)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Key string
		N   int
	}
	delivered, err := postgres.CollectRows[row](rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range delivered {
		got[r.Key] = r.N
	}
	maps.DeleteFunc(want, func(_ string, n int) bool { return n == 0 })
	t.Logf("messages by entry %v", got)
	if !maps.Equal(got, want) {
		t.Errorf("messages by entry %v, want %v", got, want)
	}
	l.s.command(0, "directory", "sync")
}

// lives is the state of the test, and life that of one person.
type lives struct {
	s      *system
	rand   *rand.Rand
	conn   *ldap.Conn
	units  []string
	people []*life
}

type life struct {
	dn, key, address string
	old              []string // addresses that were replaced
	restore          func()   // nil while the entry is there
	messages         int
}

// change does something to one entry, and waits until the server has seen it.
func (l *lives) change(t *testing.T, i int, p *life) {
	t.Helper()
	if p.restore != nil {
		p.restore()
		p.restore = nil
		l.wait(p, "restored", func(e *directory.Entry) bool { return !e.IsGone() })
		return
	}
	switch l.rand.IntN(4) {
	case 0: // another name
		rdn := fmt.Sprintf("uid=p%d", i)
		l.rename(t, p, rdn, "")
	case 1: // another unit
		rdn, _, _ := strings.Cut(p.dn, ",")
		l.rename(t, p, rdn, l.units[l.rand.IntN(len(l.units))])
	case 2: // another surname
		m := ldap.NewModifyRequest(p.dn, nil)
		p.old = append(p.old, p.address)
		p.address = fmt.Sprintf("p%d@corp.example", i)
		m.Replace("mail", []string{p.address})
		if err := l.conn.Modify(m); err != nil {
			t.Fatal(err)
		}
		l.wait(p, "given another address", func(e *directory.Entry) bool { return e.Primary.String() == p.address })
	case 3:
		p.restore = l.s.takeAway(l.conn, p.dn)
		l.wait(p, "deleted", (*directory.Entry).IsGone)
	}
}

func (l *lives) rename(t *testing.T, p *life, rdn, superior string) {
	t.Helper()
	if err := l.conn.ModifyDN(ldap.NewModifyDNRequest(p.dn, rdn, true, superior)); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(p.dn, ",")
	if superior != "" {
		rest = superior
	}
	p.dn = rdn + "," + rest
	l.wait(p, "renamed", func(e *directory.Entry) bool { return directory.NormalizeDN(e.DN) == directory.NormalizeDN(p.dn) })
}

func (l *lives) wait(p *life, what string, ok func(*directory.Entry) bool) {
	l.s.t.Helper()
	l.s.eventually(p.key+" is "+what, func() bool {
		e := l.s.node.live.Snapshot().ByKey(directory.Key(p.key))
		return e != nil && ok(e)
	})
}

// mail sends to one of the addresses that the person has or had.
func (l *lives) mail(t *testing.T, i int, p *life) {
	t.Helper()
	to := p.address
	if len(p.old) > 0 && l.rand.IntN(2) == 0 {
		to = p.old[l.rand.IntN(len(p.old))]
	}
	if code := l.s.sendTo(to, fmt.Sprintf("life %d", i)); code != 250 {
		t.Errorf("mail %d for %s: %d", i, to, code)
		return
	}
	p.messages++
}
