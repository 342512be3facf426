package auth

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"slices"
	"time"

	"dirpost/auth/apppassword"
	"dirpost/directory"
)

// Session is an open session of a mail program on this node.
type Session struct {
	// Ref names it, on all nodes, and says nothing else.
	Ref       string
	Person    directory.Key // whose mailbox it is
	Actor     directory.Key // who has logged in: Person, unless somebody acts as them
	Authcid   string        // as typed
	Protocol  string
	Mechanism string
	// AppPassword is the one that was used, 0 for another proof.
	AppPassword apppassword.ID
	Client      netip.Addr
	Since       time.Time
	// Active is when the client last said something, zero where that is not known.
	Active time.Time
}

// newRef returns the name of a session, which nobody can guess.
func newRef() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: it ends the process instead
	return hex.EncodeToString(b[:])
}

// session describes w.
func (w *watch) session() Session {
	s := Session{
		Ref: w.ref, Person: w.id.Person, Actor: w.id.Actor, Authcid: w.id.Authcid, Protocol: w.id.Protocol, Mechanism: w.id.Mechanism,
		AppPassword: w.id.AppPassword, Client: w.id.Client, Since: w.since,
	}
	if s.Actor == "" {
		s.Actor = s.Person
	}
	if w.id.Active != nil {
		s.Active = w.id.Active()
	}
	return s
}

// Sessions are those that are open on this node of a person's mailbox, and those that
// the person has in other mailboxes, the oldest first.
func (b *Bridge) Sessions(person directory.Key) []Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Session, 0, len(b.watches[person]))
	for w := range b.watches[person] {
		all = append(all, w.session())
	}
	slices.SortFunc(all, func(x, y Session) int { return x.Since.Compare(y.Since) })
	return all
}

// EndSession ends that session of Sessions whose name is ref, and reports whether this
// node had it. The client may log in again.
func (b *Bridge) EndSession(person directory.Key, ref, reason string) bool {
	return b.end(person, reason, func(w *watch) bool { return w.ref == ref }) > 0
}
