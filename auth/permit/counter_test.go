package permit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

// domain is a directory that locks accounts as Active Directory does.
type domain struct {
	mu     sync.Mutex
	rule   directory.Lockout
	away   error
	counts map[directory.Key]int // wrong passwords, "right" is right
	most   int                   // that any account has had
	binds  int
}

func newDomain(threshold int) *domain {
	return &domain{rule: directory.Lockout{Threshold: threshold, Window: 30 * time.Minute}, counts: map[directory.Key]int{}}
}

// Lockout implements Reader. It does not tell its count, as a domain that keeps it
// from us.
func (d *domain) Lockout(context.Context, *directory.Entry) (directory.Lockout, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rule, d.away
}

func (d *domain) set(f func(*directory.Lockout)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.rule)
}

// judge is a bind.
func (d *domain) judge(e *directory.Entry, password string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.binds++
	if password == "right" {
		d.counts[e.Key] = 0
		return nil
	}
	d.counts[e.Key]++
	d.most = max(d.most, d.counts[e.Key])
	return &directory.Refusal{Reason: directory.ReasonPassword}
}

func (d *domain) state() (binds, most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.binds, d.most
}

// node is one node's counter.
type node struct {
	*Counter
	t  testing.TB
	d  *domain
	at atomic.Int64 // what its clock is ahead
}

var testKey = [][]byte{[]byte("0123456789abcdef0123456789abcdef")}

func testConfig() Config {
	c := DefaultConfig()
	c.Slow = 0
	c.NetworkBurst = 1_000_000
	return c
}

func newNode(t testing.TB, db *postgres.DB, d *domain, cfg Config, keys [][]byte) *node {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	n := &node{Counter: New(db, cfg, keys, map[string]Reader{"corp": d}, slog.New(slog.DiscardHandler)), t: t, d: d}
	n.now = func() time.Time { return time.Now().Add(time.Duration(n.at.Load())) }
	t.Cleanup(func() { n.Close(context.Background()) })
	return n
}

func entry(uid string) *directory.Entry {
	return &directory.Entry{Key: directory.Key("corp:" + uid), Directory: "corp", DN: "uid=" + uid, Modified: time.Unix(1_700_000_000, 0)}
}

var home, away = netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("203.0.113.9")

// login is a login as the bridge makes one. It returns why it was refused, "in",
// "wrong", or "temporary".
func (n *node) login(e *directory.Entry, password string, client netip.Addr) string {
	n.t.Helper()
	p, err := n.Take(n.t.Context(), Login{Entry: e, Name: "x", Password: password, Client: client})
	var no *Refusal
	switch {
	case errors.As(err, &no):
		return no.Reason
	case err != nil:
		if !envelope.StatusOf(err).IsTemporary() {
			n.t.Errorf("%v is not temporary", err)
		}
		return "temporary"
	}
	err = n.d.judge(e, password)
	p.Settle(VerdictOf(err))
	if err != nil {
		return "wrong"
	}
	n.Welcome(Login{Entry: e, Client: client})
	return "in"
}

// flush waits until nothing is underway to the database.
func (n *node) flush() {
	for {
		n.exchange.mu.Lock()
		ended := n.exchange.ended
		n.exchange.mu.Unlock()
		if ended == nil {
			return
		}
		<-ended
	}
}

func (n *node) want(e *directory.Entry, password string, client netip.Addr, want string) {
	n.t.Helper()
	if got := n.login(e, password, client); got != want {
		n.t.Errorf("%s from %v with %q: %s, want %s", e.Key, client, password, got, want)
	}
	n.flush()
}

// TestReserve: strangers use up their permits, and whoever comes from where the
// person was before goes on, by all nodes together.
func TestReserve(t *testing.T) {
	t.Parallel()
	db, d, alice := testenv.Database(t), newDomain(5), entry("alice")
	one, two := newNode(t, db, d, testConfig(), testKey), newNode(t, db, d, testConfig(), testKey)
	one.want(alice, "right", home, "in")
	for i := range 3 {
		[]*node{one, two}[i%2].want(alice, fmt.Sprint("guess", i), away, "wrong")
	}
	one.want(alice, "guess3", away, ReasonNone)
	two.want(alice, "right", away, ReasonNone) // a stranger that knows the password
	two.want(alice, "typo", home, "wrong")     // the reserve, as the other node has learnt
	one.want(alice, "right", home, ReasonNone) // one more might lock
	if _, most := d.state(); most != 4 {
		t.Errorf("the domain has counted %d, want 4 of 5", most)
	}
}

// TestRightResets: the directory forgets at a right password, and so do we.
func TestRightResets(t *testing.T) {
	t.Parallel()
	d, alice := newDomain(5), entry("alice")
	n := newNode(t, testenv.Database(t), d, testConfig(), testKey)
	n.want(alice, "right", home, "in")
	for round := range 5 {
		for i := range 3 {
			n.want(alice, fmt.Sprint("guess", round, i), away, "wrong")
		}
		n.want(alice, "more", away, ReasonNone)
		n.want(alice, "right", home, "in")
	}
	if _, most := d.state(); most > 4 {
		t.Errorf("the domain has counted %d", most)
	}
}

// TestOrder: a wrong password that is judged after a right one, and settled before
// it, still counts.
func TestOrder(t *testing.T) {
	t.Parallel()
	d, alice := newDomain(5), entry("alice")
	n := newNode(t, testenv.Database(t), d, testConfig(), testKey)
	n.want(alice, "right", home, "in")
	n.want(alice, "before", away, "wrong")
	slow, err := n.Take(t.Context(), Login{Entry: alice, Password: "right", Client: home})
	if err != nil {
		t.Fatal(err)
	}
	right := d.judge(alice, "right")
	n.want(alice, "after", away, "wrong")
	slow.Settle(VerdictOf(right))
	n.flush()
	n.want(alice, "more", away, "wrong")
	n.want(alice, "still more", away, "wrong")
	n.want(alice, "too much", away, ReasonNone)
	if _, most := d.state(); most != 3 {
		t.Errorf("the domain has counted %d, want 3", most)
	}
}

// TestLimits: which numbers come of which rule.
func TestLimits(t *testing.T) {
	t.Parallel()
	const m = time.Minute
	tests := []struct {
		name                 string
		rule                 directory.Lockout
		reserve              int
		strangers, everybody int
		span                 time.Duration
		counted              bool
	}{
		{"five", directory.Lockout{Threshold: 5, Window: 10 * m}, 1, 3, 4, 10*m + spare, true},
		{"three", directory.Lockout{Threshold: 3, Window: 10 * m}, 1, 1, 2, 10*m + spare, true},
		{"three, all for the reserve", directory.Lockout{Threshold: 3, Window: 10 * m}, 5, 1, 2, 10*m + spare, true},
		{"two", directory.Lockout{Threshold: 2, Window: 10 * m}, 1, 1, 1, 10*m + spare, true},
		{"one", directory.Lockout{Threshold: 1, Window: 10 * m}, 1, 0, 0, 10*m + spare, true},
		{"for ever", directory.Lockout{Threshold: 5}, 1, 3, 4, forever + spare, true},
		{"hidden, no rule", directory.Lockout{Hidden: true}, 1, 1, 2, 30*m + spare, true},
		{"hidden, a rule that forgives more", directory.Lockout{Threshold: 50, Window: 60 * m, Hidden: true}, 1, 1, 2, 60*m + spare, true},
		{"hidden, a rule that forgives less", directory.Lockout{Threshold: 2, Window: m, Hidden: true}, 1, 1, 1, m + spare, true},
		{"none", directory.Lockout{}, 1, 100, 100, 30 * m, false},
	}
	for _, tt := range tests {
		c := DefaultConfig()
		c.Reserve = tt.reserve
		l := c.limitsFor(tt.rule)
		if l.strangers != tt.strangers || l.everybody != tt.everybody || l.span != tt.span || l.counted != tt.counted {
			t.Errorf("%s: %+v", tt.name, l)
		}
	}
}

// TestRepeated: a wrong password is refused again without asking, by every node,
// until anything about the entry changes.
func TestRepeated(t *testing.T) {
	t.Parallel()
	db, d, alice := testenv.Database(t), newDomain(5), entry("alice")
	one, two := newNode(t, db, d, testConfig(), testKey), newNode(t, db, d, testConfig(), testKey)
	one.want(alice, "old", home, "wrong")
	for range 10 {
		one.want(alice, "old", home, ReasonRepeated)
		two.want(alice, "old", home, ReasonRepeated)
	}
	if binds, _ := d.state(); binds != 1 {
		t.Errorf("%d binds, want 1", binds)
	}
	changed := entry("alice")
	changed.Modified = changed.Modified.Add(time.Second)
	two.want(changed, "old", home, "wrong")
	one.at.Add(int64(2 * time.Hour))
	one.want(alice, "old", home, ReasonRepeated) // the database still knows
	if _, err := db.Exec(t.Context(), postgres.Interactive, `update auth_refused set until = now()`); err != nil {
		t.Fatal(err)
	}
	one.at.Add(int64(2 * time.Hour))
	one.want(alice, "old", home, "wrong")
}

// TestAtOnce: however many guess at the same time at several nodes, the domain
// never counts more than strangers may use; and several right ones at once all get
// in, since the permit of the first comes back.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	db, d := testenv.Database(t), newDomain(5)
	nodes := []*node{newNode(t, db, d, testConfig(), testKey), newNode(t, db, d, testConfig(), testKey), newNode(t, db, d, testConfig(), testKey)}
	people := []*directory.Entry{entry("alice"), entry("bob"), entry("carol")}
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() { nodes[i%3].login(people[i/3%3], fmt.Sprint("guess", i), away) })
	}
	wg.Wait()
	for who, n := range d.counts {
		if n != 3 {
			t.Errorf("%s: the domain has counted %d, want 3", who, n)
		}
	}
	dora := entry("dora")
	d.set(func(l *directory.Lockout) { l.Threshold = 3 }) // one for strangers
	for range 6 {
		wg.Go(func() {
			if got := nodes[0].login(dora, "right", away); got != "in" {
				t.Errorf("one of several programs of the same person: %s", got)
			}
		})
	}
	wg.Wait()
}

// TestAbandoned: what a node took and did not settle counts as a wrong password.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	db, d, alice := testenv.Database(t), newDomain(5), entry("alice")
	n := newNode(t, db, d, testConfig(), testKey)
	for i := range 2 {
		if _, err := n.Take(t.Context(), Login{Entry: alice, Password: fmt.Sprint(i), Client: away}); err != nil {
			t.Fatal(err)
		}
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), postgres.Interactive, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`update auth_permit set pending_at = pending_at - interval '3 minutes'`)
	n.want(alice, "guess", away, "wrong")
	n.want(alice, "another", away, ReasonNone)
	// The window is over.
	exec(`update auth_permit set expires_at = now() - interval '1 second'`)
	n.exhausted.clear()
	n.want(alice, "a third", away, "wrong")
}

// TestElsewhere: what the domain counts itself takes permits away, and gives them
// back when it is forgotten there.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	d, alice := newDomain(5), entry("alice")
	n := newNode(t, testenv.Database(t), d, testConfig(), testKey)
	d.set(func(l *directory.Lockout) { l.Wrong = 3 })
	n.want(alice, "right", away, ReasonNone)
	n.Welcome(Login{Entry: alice, Client: home})
	n.want(alice, "typo", home, "wrong")
	d.set(func(l *directory.Lockout) { l.Wrong = 4 })
	n.want(alice, "right", home, ReasonNone)
	d.set(func(l *directory.Lockout) { l.Wrong, l.Locked = 0, true })
	n.want(alice, "right", home, ReasonLocked)
	d.set(func(l *directory.Lockout) { l.Locked = false })
	n.want(alice, "right", home, "in")
}

// TestFamiliar: a network and a certificate are known to all nodes, also with a
// sealing key that was followed by another.
func TestFamiliar(t *testing.T) {
	t.Parallel()
	db, d, alice := testenv.Database(t), newDomain(3), entry("alice")
	one := newNode(t, db, d, testConfig(), testKey)
	one.Welcome(Login{Entry: alice, Client: home, Certificate: []byte("certificate")})
	one.flush()
	two := newNode(t, db, d, testConfig(), [][]byte{[]byte("another key that came after it..."), testKey[0]})
	two.want(alice, "guess", away, "wrong")
	two.want(alice, "right", away, ReasonNone)
	p, err := two.Take(t.Context(), Login{Entry: alice, Password: "right", Client: away, Certificate: []byte("certificate")})
	if err != nil || !p.Familiar {
		t.Fatalf("with the certificate: %v", err)
	}
	p.Settle(Unjudged)
	two.want(alice, "right", netip.MustParseAddr("192.0.2.200"), "in") // the same network
	six := netip.MustParseAddr("2001:db8:1:2::1")
	one.Welcome(Login{Entry: alice, Client: six})
	one.flush()
	if home, err := two.askHome(t.Context(), alice.Key, two.marks(alice.Key, netip.MustParseAddr("2001:db8:1:ff::9"), nil)); err != nil || !home {
		t.Errorf("the same /56: %v, %v", home, err)
	}
	if home, err := two.askHome(t.Context(), alice.Key, two.marks(alice.Key, netip.MustParseAddr("2001:db8:1:100::9"), nil)); err != nil || home {
		t.Errorf("another /56: %v, %v", home, err)
	}
	if home, err := two.askHome(t.Context(), "corp:bob", two.marks("corp:bob", home, nil)); err != nil || home {
		t.Errorf("somebody else: %v, %v", home, err)
	}
}

// TestFamiliarBounded: of one person only the newest places are kept.
func TestFamiliarBounded(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.FamiliarMax = 3
	db := testenv.Database(t)
	n := newNode(t, db, newDomain(5), cfg, testKey)
	for i := range 10 {
		n.Welcome(Login{Entry: entry("alice"), Client: netip.AddrFrom4([4]byte{10, 0, byte(i), 1})})
		n.flush()
	}
	var kept int
	if err := db.QueryRow(t.Context(), postgres.Interactive, `select count(*) from auth_familiar`).Scan(&kept); err != nil || kept != 3 {
		t.Errorf("%d kept, %v", kept, err)
	}
}

// TestNoKey: without a sealing key nothing that is made of secrets is in the
// database, and the counter is there all the same.
func TestNoKey(t *testing.T) {
	t.Parallel()
	db, d, alice := testenv.Database(t), newDomain(5), entry("alice")
	one, two := newNode(t, db, d, testConfig(), nil), newNode(t, db, d, testConfig(), nil)
	one.want(alice, "right", home, "in")
	for i := range 3 {
		one.want(alice, fmt.Sprint(i), away, "wrong")
	}
	one.want(alice, "0", away, ReasonRepeated)
	two.want(alice, "0", away, ReasonNone)
	two.want(alice, "right", home, ReasonNone) // the other node does not know
	one.want(alice, "right", home, "in")
	for i := range 12 {
		one.want(entry(fmt.Sprint("p", i)), "Summer2026", away, map[bool]string{true: "wrong", false: ReasonSprayed}[i < 10])
	}
	if err := one.share(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	err := db.QueryRow(t.Context(), postgres.Interactive,
		`select (select count(*) from auth_familiar) + (select count(*) from auth_refused) + (select count(*) from auth_spray)`).Scan(&n)
	if err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// TestNetwork: a client that guesses too much is not heard as a stranger any more,
// which keeps nobody from coming home.
func TestNetwork(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.NetworkBurst, cfg.NetworkHour = 3, 5
	db, d := testenv.Database(t), newDomain(0)
	one, two := newNode(t, db, d, cfg, testKey), newNode(t, db, d, cfg, testKey)
	alice := entry("alice")
	one.want(alice, "right", home, "in")
	for i := range 3 {
		one.want(entry(fmt.Sprint(i)), "guess", home, "wrong")
	}
	one.want(entry("x"), "right", home, ReasonNetwork)
	one.want(alice, "right", home, "in")
	for i := range 3 {
		two.want(entry(fmt.Sprint(i)), "another", home, "wrong")
	}
	for _, n := range []*node{one, two, one} {
		if err := n.share(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	one.at.Add(int64(time.Hour)) // its own bucket is full again
	one.want(entry("x"), "right", home, ReasonNetwork)
	one.want(alice, "right", home, "in")
	one.want(entry("x"), "right", away, "in")
	if n, err := UnblockNetwork(t.Context(), db, netip.MustParsePrefix("192.0.2.0/24")); err != nil || n != 1 {
		t.Errorf("unblocked %d, %v", n, err)
	}
	one.unblocked("192.0.2.0/24")
	one.want(entry("x"), "right", home, "in")
}

// TestGenerous: a directory that locks nobody is asked without a permit, until it is
// too much.
func TestGenerous(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Generous = 20
	db, d, alice := testenv.Database(t), newDomain(0), entry("alice")
	n := newNode(t, db, d, cfg, testKey)
	n.want(alice, "right", home, "in")
	for i := range 20 {
		n.want(alice, fmt.Sprint(i), away, "wrong")
	}
	n.want(alice, "right", away, ReasonNone)
	n.want(alice, "right", home, "in")
	if n.metrics.requests == nil {
		t.Fatal("no metrics")
	}
}

// TestDatabaseAway: nobody gets a permit, and that is a temporary failure.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	d, alice := newDomain(5), entry("alice")
	db := testenv.OpenDatabase(t, testenv.DatabaseURL(t))
	n := newNode(t, db, d, testConfig(), testKey)
	n.want(alice, "right", home, "in")
	db.Close()
	if got := n.login(alice, "right", home); got != "temporary" {
		t.Errorf("database away: %s", got)
	}
	if binds, _ := d.state(); binds != 1 {
		t.Errorf("%d binds", binds)
	}
	d.set(func(l *directory.Lockout) { l.Threshold = 0 })
	if got := n.login(alice, "right", home); got != "in" {
		t.Errorf("where nobody is locked: %s", got)
	}
	d.away = errors.New("connection refused")
	if got := n.login(alice, "right", home); got != "temporary" {
		t.Errorf("directory away: %s", got)
	}
}

// TestAttack: with an unusual share of failures all strangers are held up, and
// nobody else.
func TestAttack(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.AttackWrong, cfg.Slow = 50, time.Minute
	db, d, alice := testenv.Database(t), newDomain(5), entry("alice")
	n := newNode(t, db, d, cfg, testKey)
	n.want(alice, "right", home, "in")
	for i := range 60 {
		n.Unknown(t.Context(), Login{Name: fmt.Sprint(i), Password: fmt.Sprint(i), Client: away})
	}
	if err := n.share(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !n.tally.attacked() {
		t.Fatal("no attack")
	}
	n.want(alice, "right", home, "in")
	other := newNode(t, db, d, cfg, testKey) // has to ask whether alice is at home
	if err := other.share(t.Context()); err != nil || !other.tally.attacked() {
		t.Fatalf("the other node sees no attack: %v", err)
	}
	other.want(alice, "right", home, "in")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	n.Unknown(ctx, Login{Name: "a", Password: "b", Client: away}) // held up until the client has gone
	if ctx.Err() == nil {
		t.Error("a stranger was not held up")
	}
	top, err := ReadTop(t.Context(), db, cfg, 5)
	if err != nil {
		t.Fatal(err)
	}
	if !top.Attack || len(top.Minutes) == 0 || len(top.Sources) != 1 || top.Sources[0].Wrong < 60 || len(top.Accounts) != 1 || top.Accounts[0].Person != "" {
		t.Errorf("top: %+v", top)
	}
}

// TestUnblock: an administrator gives the permits back.
func TestUnblock(t *testing.T) {
	t.Parallel()
	db, d, alice := testenv.Database(t), newDomain(5), entry("alice")
	n := newNode(t, db, d, testConfig(), testKey)
	for i := range 3 {
		n.want(alice, fmt.Sprint(i), away, "wrong")
	}
	n.want(alice, "right", away, ReasonNone)
	if err := n.share(t.Context()); err != nil {
		t.Fatal(err)
	}
	top, err := ReadTop(t.Context(), db, n.cfg, 5)
	if err != nil {
		t.Fatal(err)
	}
	want := Permits{People: 1, Used: 3, Exhausted: 1}
	if top.Permits != want || len(top.Accounts) != 1 || top.Accounts[0].Tried != 4 || top.Accounts[0].Refused != 1 || top.Accounts[0].Strangers != 3 {
		t.Errorf("top: %+v", top)
	}
	n.TurnedAway(away, "corp:bob") // shown, and nothing more
	if err := n.share(t.Context()); err != nil {
		t.Fatal(err)
	}
	if top, err = ReadTop(t.Context(), db, n.cfg, 5); err != nil || len(top.Accounts) != 2 || top.Accounts[1].Person != "corp:bob" || top.Permits != want {
		t.Errorf("top: %+v, %v", top, err)
	}
	if found, err := Unblock(t.Context(), db, alice.Key); err != nil || !found {
		t.Errorf("unblocked %v, %v", found, err)
	}
	n.unblocked(string(alice.Key))
	n.want(alice, "0", away, "wrong")
	n.want(alice, "right", away, "in")
}

// TestPurge: what counts no more goes, and what is too much.
func TestPurge(t *testing.T) {
	t.Parallel()
	db, d := testenv.Database(t), newDomain(5)
	n := newNode(t, db, d, testConfig(), testKey)
	for i := range 20 {
		n.want(entry(fmt.Sprint(i)), "guess", away, map[bool]string{true: "wrong", false: ReasonSprayed}[i < 10])
		n.want(entry(fmt.Sprint(i)), "right", home, "in")
	}
	if err := n.share(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows := func() (all [5]int) {
		t.Helper()
		err := db.QueryRow(t.Context(), postgres.Interactive, `select (select count(*) from auth_permit), (select count(*) from auth_familiar),
			(select count(*) from auth_refused), (select count(*) from auth_spray), (select count(*) from auth_source)`).Scan(&all[0], &all[1], &all[2], &all[3], &all[4])
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got, want := rows(), [5]int{20, 20, 10, 1, 1}; got != want {
		t.Errorf("rows %v, want %v", got, want)
	}
	if err := n.purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := rows(), [5]int{20, 20, 10, 1, 1}; got != want {
		t.Errorf("rows %v after a purge, want %v", got, want)
	}
	if _, err := db.Exec(t.Context(), postgres.Interactive, `select auth_permit_purge($1, $2)`, time.Hour, 4); err != nil {
		t.Fatal(err)
	}
	if got, want := rows(), [5]int{20, 20, 4, 1, 1}; got != want {
		t.Errorf("rows %v with room for 4, want %v", got, want)
	}
	for _, sql := range []string{
		`update auth_permit set expires_at = now() - interval '2 days', pending_at = now() - interval '2 days', tried_at = now() - interval '2 days'`,
		`update auth_familiar set last_at = now() - interval '100 days'`,
		`update auth_refused set until = now() - interval '1 second'`,
		`update auth_spray set last_at = now() - interval '2 days', until = now() - interval '1 day'`,
		`update auth_source set last_at = now() - interval '2 days'`,
	} {
		if _, err := db.Exec(t.Context(), postgres.Interactive, sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := rows(); got != [5]int{} {
		t.Errorf("rows %v are left", got)
	}
}

// TestVerdicts: what a directory's answer means for the count.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err  error
		want Verdict
	}{
		{nil, Right},
		{&directory.Refusal{Reason: directory.ReasonPassword}, Wrong},
		{fmt.Errorf("x: %w", &directory.Refusal{Reason: directory.ReasonPassword}), Wrong},
		{&directory.Refusal{Reason: directory.ReasonLocked}, Unsure},
		{&directory.Refusal{Reason: directory.ReasonDisabled}, Unsure},
		{&directory.Refusal{Reason: directory.ReasonDisabled, Right: true}, Unjudged},
		{&directory.Refusal{Reason: directory.ReasonMustChange, Right: true}, Unjudged},
		{fmt.Errorf("bind: %w: %w", directory.ErrUnanswered, context.DeadlineExceeded), Unsure},
		{errors.New("connection refused"), Unjudged},
	}
	for _, tt := range tests {
		if got := VerdictOf(tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

// TestKeyed: fields do not run into each other, and purposes are apart.
func TestKeyed(t *testing.T) {
	t.Parallel()
	k := newKeyed([]byte("k"))
	all := []sum{k.of("p", "ab", "c"), k.of("p", "a", "bc"), k.of("p", "abc"), k.of("pa", "b", "c"), k.of("p", "ab", "c", ""), newKeyed([]byte("l")).of("p", "ab", "c")}
	for i, s := range all {
		if slices.Contains(all[:i], s) {
			t.Errorf("%d is one of those before", i)
		}
	}
	if all[0] != k.of("p", "ab", "c") {
		t.Error("not the same twice")
	}
}

// TestConfig: what is wrong is said by its key.
func TestConfig(t *testing.T) {
	t.Parallel()
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	err := Config{Slow: -1}.Validate()
	for _, key := range []string{"floor:", "floor_window:", "generous:", "familiar:", "familiar_max:", "refused:", "spray_accounts:", "spray_window:",
		"network_burst:", "network_every:", "network_hour:", "attack_wrong:", "attack_share:", "slow:"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not speak of %s", err, key)
		}
	}
}
