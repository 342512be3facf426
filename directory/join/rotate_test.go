package join

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/directory/ldap"
	"dirpost/internal/gssapi"
	"dirpost/internal/postgres"
	"dirpost/internal/seal"
	"dirpost/internal/testenv"
)

// working fails unless the account of m can do all that it is for.
func working(t testing.TB, m *Member, want uint32) *Status {
	t.Helper()
	st, err := m.Status(t.Context())
	if err != nil || st.Problem != nil || st.Ticket != nil {
		t.Fatalf("%+v, %v", st, err)
	}
	if k, _ := st.Current(); st.KVNO != want || k.KVNO != want {
		t.Errorf("number %d in the domain, %d with us, want %d", st.KVNO, k.KVNO, want)
	}
	return st
}

// hints is a bus between nodes of one process.
type hints struct {
	mu sync.Mutex
	fs []func(string)
}

func (h *hints) Publish(_, payload string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.fs {
		f(payload)
	}
}

func (h *hints) Subscribe(_ string, f func(string)) func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fs = append(h.fs, f)
	return func() {}
}

// TestRotate: a new password needs nobody's right but that of the account. Other
// nodes follow it, and tickets of before are good.
func TestRotate(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m, a := joined(t, s, "ROTATE")
	bus := &hints{}
	m.Store.hints = bus
	working(t, m, a.Keys[0].KVNO)

	// Another node serves meanwhile.
	client := controller(t, s)
	applied := make(chan ldap.Machine, 100)
	store := *m.Store
	keeper := NewKeeper(&store, map[string]func(ldap.Machine) error{"corp": func(a ldap.Machine) error {
		applied <- a
		return client.SetMachine(a)
	}}, nil, slog.New(slog.DiscardHandler))
	if err := keeper.Load(ctx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- keeper.Run(ctx) }()
	alice := &directory.Entry{DN: "CN=Alice Archer,OU=Staff," + s.Base}
	before := <-applied
	if err := client.Verify(ctx, alice, s.UserPassword); err != nil {
		t.Error(err)
	}

	b, err := m.Rotate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	k := working(t, m, a.Keys[0].KVNO+1)
	if len(k.Keys) != 2 || k.Keys[1].State != StateOld || k.Keys[1].Retired.IsZero() || k.Keys[0].Password == a.Keys[0].Password || b.Version == a.Version {
		t.Errorf("%d keys", len(k.Keys))
	}
	if of := must(b.Machine()); len(of.Pending) != 1 || string(of.Pending[0]) != string(a.Keys[0].Keytab) {
		t.Error("a controller that has not heard of the change gets no key that it knows")
	}
	// The keytab of before opens tickets of before, and that of now opens both.
	if entries, err := gssapi.ReadKeytab(must(b.Keytab())); err != nil || len(entries) != 2*len(must(gssapi.ReadKeytab(before.Keytab))) {
		t.Errorf("%d keys in all, %v", len(entries), err)
	}
	deadline := time.After(time.Minute)
	for now := before; string(now.Keytab) != string(k.Keys[0].Keytab); {
		select {
		case now = <-applied:
		case <-deadline:
			t.Fatal("the other node does not follow")
		}
	}
	if err := client.Verify(ctx, alice, s.UserPassword); err != nil {
		t.Errorf("on the other node: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestRotateBroken: ended at whatever moment, a change is finished by the next, and
// meanwhile the nodes find the key that works.
func TestRotateBroken(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	ctx := t.Context()
	m, a := joined(t, s, "BROKEN")
	first, kvno := a.Keys[0], a.Keys[0].KVNO

	// Written down, and the domain never got it.
	prepared := func(password string) StoredKey {
		k := must(a.makeKey(password, first.Salt, kvno+1, time.Now()))
		return StoredKey{Key: k, ID: must(m.Store.Prepare(ctx, "corp", k))}
	}
	prepared(NewPassword())
	working(t, m, kvno)
	if _, err := m.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	kvno++
	if st := working(t, m, kvno); len(st.pending()) != 0 {
		t.Errorf("%d keys wait still", len(st.pending()))
	}

	// The domain has it, and it was not written down that it has.
	b := must(m.Store.Load(ctx, "corp"))
	second, _ := b.Current()
	prepared(NewPassword()) // of a node that stands still
	lost := prepared(NewPassword())
	prepared(NewPassword())
	session := must(m.Controller.Open(ctx, b.withKey(second.Key)))
	defer session.Close()
	mod := goldap.NewModifyRequest(b.DN, nil)
	mod.Delete("unicodePwd", []string{ldap.UnicodePwd(second.Password)})
	mod.Add("unicodePwd", []string{ldap.UnicodePwd(lost.Password)})
	if err := session.Modify(ctx, mod); err != nil {
		t.Fatal(err)
	}
	client := controller(t, s)
	if err := client.SetMachine(must(must(m.Store.Load(ctx, "corp")).Machine())); err != nil {
		t.Fatal(err)
	}
	if err := client.Check(ctx); err != nil {
		t.Errorf("no node finds the key that works: %v", err)
	}
	c := must(m.Rotate(ctx))
	if k, _ := c.Current(); k.Password != lost.Password || len(c.pending()) != 0 {
		t.Error("the change was not finished but begun anew")
	}
	kvno++
	working(t, m, kvno)

	// The node that stood still goes on: too late, and nothing is lost.
	mod = goldap.NewModifyRequest(b.DN, nil)
	mod.Delete("unicodePwd", []string{ldap.UnicodePwd(second.Password)})
	mod.Add("unicodePwd", []string{ldap.UnicodePwd("Passw0rd." + NewPassword())})
	if err := session.Modify(ctx, mod); err == nil {
		t.Error("a change from a password that is not the account's was taken")
	}
	working(t, m, kvno)

	// Somebody has set the account back.
	mod = goldap.NewModifyRequest(b.DN, nil)
	mod.Replace("unicodePwd", []string{ldap.UnicodePwd("Passw0rd.of.an.admin")})
	if err := admin(t, s).Modify(ctx, mod); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Rotate(ctx); err == nil || !strings.Contains(err.Error(), "try: dirpost join corp.example --name BROKEN --reuse") {
		t.Errorf("%v", err)
	}
	st, err := m.Status(ctx)
	if err != nil || st.Problem == nil || !strings.Contains(st.Problem.Error(), "does not work any more") {
		t.Errorf("%+v, %v", st, err)
	}
	r := request(s, "BROKEN")
	r.Reuse = true
	if _, err := m.Join(ctx, r); err != nil {
		t.Fatal(err)
	}
	if st, err := m.Status(ctx); err != nil || st.Problem != nil || st.Ticket != nil || len(st.pending()) != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestJoinBroken: a join that ended after the domain had taken the account is done
// again without being told to.
func TestJoinBroken(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	ctx := t.Context()
	m := member(t, s, testenv.Database(t), seal.GenerateKey())
	password := NewPassword()
	must(m.Store.Prepare(ctx, "corp", Key{Password: password}))
	if _, _, err := Join(ctx, m.Controller, request(s, "HALF"), password); err != nil {
		t.Fatal(err)
	}
	a, err := m.Join(ctx, request(s, "HALF"))
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Keys) != 1 {
		t.Errorf("%d keys", len(a.Keys))
	}
	if st, err := m.Status(ctx); err != nil || st.Problem != nil || st.Ticket != nil {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestKeeper: a password that is old is changed, by one node, and keys that are
// older than any ticket go.
func TestKeeper(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	m, a := joined(t, s, "KEEPER")
	age := func(sql string) {
		t.Helper()
		if _, err := m.Store.db.Exec(t.Context(), postgres.Interactive, sql); err != nil {
			t.Fatal(err)
		}
	}
	run := func(until func(*Stored) bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		for n := range 3 {
			node := *m
			node.Node = fmt.Sprint("node ", n)
			k := NewKeeper(m.Store, nil, []*Member{&node}, slog.New(slog.DiscardHandler))
			wg.Go(func() { _ = k.Run(ctx) })
		}
		for {
			now, err := m.Store.Load(ctx, "corp")
			if err != nil {
				t.Fatal(err)
			}
			if until(now) {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	age(`update machine_key set set_at = now() - interval '31 days'`)
	run(func(now *Stored) bool { k, _ := now.Current(); return k.ID != a.Keys[0].ID })
	working(t, m, a.Keys[0].KVNO+1)
	age(`update machine_key set retired_at = now() - interval '9 days' where state = 'old'`)
	run(func(now *Stored) bool { return len(now.Keys) == 1 })
	working(t, m, a.Keys[0].KVNO+1) // and none more

	if ok, err := m.Store.lease(t.Context(), "corp", "somebody", time.Minute); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := m.Rotate(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	m.Directory = "other"
	if _, err := m.Rotate(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}
