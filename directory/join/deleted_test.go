package join

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/directory/descriptor"
	"dirpost/directory/ldap"
	"dirpost/internal/seal"
	"dirpost/internal/testenv"
)

// accessList is who may do what with the container of deleted entries.
func accessList(t testing.TB, adm *ldap.Session) []byte {
	t.Helper()
	_, list, err := adm.DeletedContainer(t.Context())
	if err != nil || list == nil {
		t.Fatal(list, err)
	}
	return list
}

// TestReadDeleted: an account that joined is let read deleted entries, once, beside what
// others may do there, and the domain tells it of a deletion from then on. What it got
// goes again, at the latest with the account.
func TestReadDeleted(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	m, a := joined(t, s, "READER")
	ctx, adm, r := t.Context(), admin(t, s), request(s, "READER")
	told := func() bool {
		t.Helper()
		st, err := m.Status(ctx)
		if err != nil || st.Problem != nil {
			t.Fatal(err, st)
		}
		return st.Told
	}
	if told() {
		t.Error("an ordinary account is told")
	}
	ordinary := r
	ordinary.User, ordinary.Password = s.Service, s.ServicePass
	_, err := m.ReadDeleted(ctx, ordinary)
	for _, want := range []string{"svc-mail may not change who may read CN=Deleted Objects,DC=corp,DC=example",
		`try: dsacls "CN=Deleted Objects,DC=corp,DC=example" /takeownership && dsacls "CN=Deleted Objects,DC=corp,DC=example" /G "CORP\READER$:LCRP"`,
		"or: dirpost join read-deleted --user ADMIN"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %q", err, want)
		}
	}
	for _, want := range []bool{true, false} { // the second time there is nothing to do
		if changed, err := m.ReadDeleted(ctx, r); changed != want || err != nil {
			t.Fatalf("%v %v, want %v", changed, err, want)
		}
	}
	if !told() {
		t.Error("is not told")
	}
	with := accessList(t, adm)

	f := follow(t, s, a)
	gone := f.add("told")
	if err := adm.Delete(ctx, gone); err != nil {
		t.Fatal(err)
	}
	f.untilGone()
	if st := f.source.Status(); st.Mode != ldap.FollowDirSync || st.Deletions != ldap.DeletionsTold {
		t.Errorf("%+v", st)
	}

	for _, want := range []bool{true, false} {
		if changed, err := m.HideDeleted(ctx, r); changed != want || err != nil {
			t.Fatalf("%v %v, want %v", changed, err, want)
		}
	}
	if told() {
		t.Error("is told still")
	}
	without := accessList(t, adm)
	is, err := descriptor.Parse(with)
	was, wasErr := descriptor.Parse(without)
	if err != nil || wasErr != nil || len(was.Access) == 0 || len(is.Access) != len(was.Access)+1 || !slices.Equal(is.Access[:len(was.Access)], was.Access) {
		t.Errorf("%v %v\n%+v\n%+v", err, wasErr, was, is)
	}
	if _, err := m.ReadDeleted(ctx, r); err != nil {
		t.Fatal(err)
	}
	if err := m.Leave(ctx, LeaveDelete, r); err != nil {
		t.Fatal(err)
	}
	if left := accessList(t, adm); !bytes.Equal(left, without) {
		t.Errorf("after the account left\n%x\nwant\n%x", left, without)
	}
	if _, err := m.ReadDeleted(ctx, r); !errors.Is(err, ErrNotFound) {
		t.Errorf("who has left: %v", err)
	}
}

// TestReadDeletedDenied: an entry that denies it is not argued with.
func TestReadDeletedDenied(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	m := member(t, s, testenv.Database(t), seal.GenerateKey())
	r := request(s, "DENIED")
	r.Command = "dirpost join read-deleted"
	refuse := func(_, _ []byte, _ descriptor.Mask) ([]byte, bool, error) { return nil, false, descriptor.ErrDenied }
	if _, err := m.Join(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	a, err := m.Store.Load(t.Context(), "corp")
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.editDeleted(t.Context(), admin(t, s), a.Account, "/G", refuse)
	if !errors.Is(err, descriptor.ErrDenied) || !strings.Contains(err.Error(), `try: dsacls "CN=Deleted Objects,DC=corp,DC=example"`) {
		t.Errorf("%v", err)
	}
	// A server that takes a list and keeps another one.
	forgetful := func(b, _ []byte, _ descriptor.Mask) ([]byte, bool, error) { return nil, true, nil }
	if _, err = r.editDeleted(t.Context(), admin(t, s), a.Account, "/G", forgetful); err == nil || !strings.Contains(err.Error(), "has not kept the change") {
		t.Errorf("%v", err)
	}
}

// following is a source that reads a domain as a computer account. It knows of no
// snapshot: what it says is gone, the domain has told.
type following struct {
	t       *testing.T
	s       *testenv.ADServer
	source  interface{ Status() directory.SourceStatus }
	batches chan directory.Batch
	key     directory.Key // of who was added last
}

// follow reads the domain as an account, and returns when it has read it all.
func follow(t *testing.T, s *testenv.ADServer, a *Stored) *following {
	t.Helper()
	c, err := ldap.New(ldap.Config{Name: "corp", Preset: "ad", Bind: ldap.BindJoined, URLs: []string{s.URL}, Base: s.Base, TLS: "none", Follow: ldap.FollowDirSync,
		ConnectTimeout: time.Minute, Timeout: time.Minute, PollEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	machine, err := a.Machine()
	if err == nil {
		err = c.SetMachine(machine)
	}
	if err != nil {
		t.Fatal(err)
	}
	source := c.Source(slog.New(slog.DiscardHandler))
	f := &following{t: t, s: s, source: source.(interface{ Status() directory.SourceStatus }), batches: make(chan directory.Batch, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended; c.Close() })
	go func() {
		defer close(ended)
		err := source.Follow(ctx, nil, func(ctx context.Context, b directory.Batch) error {
			select {
			case f.batches <- b:
			case <-ctx.Done():
			}
			return ctx.Err()
		})
		if ctx.Err() == nil {
			t.Errorf("follow: %v", err)
		}
	}()
	for !f.next().Complete {
	}
	return f
}

// next is the next batch.
func (f *following) next() directory.Batch {
	f.t.Helper()
	select {
	case b := <-f.batches:
		return b
	case <-time.After(2 * time.Minute):
		f.t.Fatal("nothing is told")
		return directory.Batch{}
	}
}

// add adds a contact, and waits until it is told of.
func (f *following) add(name string) (dn string) {
	f.t.Helper()
	dn = "CN=" + name + "," + f.s.Base
	req := goldap.NewAddRequest(dn, nil)
	req.Attribute("objectClass", []string{"contact"})
	req.Attribute("mail", []string{name + "@corp.example"})
	if err := admin(f.t, f.s).Add(f.t.Context(), req); err != nil {
		f.t.Fatal(err)
	}
	for f.key == "" {
		for _, c := range f.next().Changes {
			if c.Entry != nil && strings.EqualFold(c.Entry.DN, dn) {
				f.key = c.Key
			}
		}
	}
	return dn
}

// untilGone waits until it is told that who was added last is gone.
func (f *following) untilGone() {
	f.t.Helper()
	for {
		for _, c := range f.next().Changes {
			if c.Key == f.key && c.Entry == nil {
				return
			}
		}
	}
}
