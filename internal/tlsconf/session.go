package tlsconf

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
)

// A Sealer encrypts the tickets that nodes share; *seal.Sealer is one.
type Sealer interface {
	Seal(purpose string, value []byte) []byte
	Open(purpose string, sealed []byte) ([]byte, error)
}

// A Recognizer is a connection below TLS that wants to know its client again.
type Recognizer interface {
	// Recognize is called in a handshake with the name of the TLS session, which a
	// client has in its ticket, sealed, and which every session that is resumed from
	// this one has too. returned says that the client has resumed it: it has proved to
	// have the secret that goes with the ticket. It is not called for a client that
	// takes no tickets, and is worth something only once the handshake is over.
	Recognize(session string, returned bool)
}

const (
	// nameMark begins the entry that is ours in tls.SessionState.Extra.
	nameMark = "dirpost session\x01"
	nameSize = 16
	// maxTicket bounds what is looked at, in octets: a certificate of the client may
	// be in it.
	maxTicket = 16 << 10
)

// sessions makes and opens the tickets of one configuration (RFC 8446 §4.6.1,
// RFC 5077).
type sessions struct {
	base    *tls.Config // has the keys of this process
	sealer  Sealer      // nil: tickets are of this process
	purpose string
}

// follow makes one the configuration of a connection that is known again.
func (s *sessions) follow(one *tls.Config, r Recognizer) {
	returned := "" // of the last ticket that was opened, which is the one that is resumed
	one.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		state := s.open(ticket, cs)
		if state == nil {
			return nil, nil
		}
		returned = nameOf(state)
		return state, nil
	}
	one.WrapSession = func(cs tls.ConnectionState, state *tls.SessionState) ([]byte, error) {
		name, resumed := returned, cs.DidResume && returned != ""
		if !resumed {
			var fresh [nameSize]byte
			rand.Read(fresh[:]) // never fails: it ends the process instead
			name = string(fresh[:])
		}
		r.Recognize(name, resumed)
		state.Extra = append(state.Extra, append([]byte(nameMark), name...))
		return s.make(cs, state)
	}
}

// nameOf is the name that a session was given, "" for none.
func nameOf(state *tls.SessionState) string {
	for _, e := range state.Extra {
		if name, ok := bytes.CutPrefix(e, []byte(nameMark)); ok && len(name) == nameSize {
			return string(name)
		}
	}
	return ""
}

// make makes a ticket. Those of TLS 1.2 hold the key of what was said in the session,
// so that they are made with keys that die with this process. Those of TLS 1.3 do not:
// each session has a key exchange of its own.
func (s *sessions) make(cs tls.ConnectionState, state *tls.SessionState) ([]byte, error) {
	if s.sealer == nil || cs.Version < tls.VersionTLS13 {
		return s.base.EncryptTicket(cs, state)
	}
	b, err := state.Bytes()
	if err != nil {
		return nil, err
	}
	return s.sealer.Seal(s.purpose, b), nil
}

// open opens a ticket. One that is of no use is none: the client shakes hands in full.
func (s *sessions) open(ticket []byte, cs tls.ConnectionState) *tls.SessionState {
	if len(ticket) == 0 || len(ticket) > maxTicket {
		return nil
	}
	if s.sealer != nil && cs.Version >= tls.VersionTLS13 {
		if b, err := s.sealer.Open(s.purpose, ticket); err == nil {
			if state, err := tls.ParseSessionState(b); err == nil {
				return state
			}
			return nil
		}
	}
	state, err := s.base.DecryptTicket(ticket, cs)
	if err != nil {
		return nil
	}
	return state
}
