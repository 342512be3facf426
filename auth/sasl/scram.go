package sasl

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/xdg-go/scram"
)

// The mechanisms of SCRAM. The second one binds the exchange to its TLS connection.
const (
	ScramSHA256     = "SCRAM-SHA-256"
	ScramSHA256Plus = "SCRAM-SHA-256-PLUS"
)

// maxScram bounds a message of SCRAM, in octets: names, a nonce, a binding and a
// proof are far below.
const maxScram = 2 << 10

// Errors of Scram.
var (
	// ErrProof reports that the client has none of the passwords.
	ErrProof = errors.New("wrong proof")
	// ErrBinding reports that the client speaks through another TLS connection than
	// ours, or was told of other mechanisms than those we offer: somebody stands in
	// between (RFC 5802 §6).
	ErrBinding = errors.New("channel binding does not match")
)

// ScramConfig is what all exchanges of SCRAM with this server have in common: the
// challenge is the same for every name, so that it says nothing about any.
type ScramConfig struct {
	Salt       []byte
	Iterations int
}

// ScramKey are the keys of one password (RFC 5802 §3).
type ScramKey struct{ StoredKey, ServerKey []byte }

// ScramLookup returns the keys of the passwords that a name has, none for one that
// nobody has. It is called when the proof has come, and if the proof is right for none
// of them once more, again: there may be a password that was not known the first
// time.
type ScramLookup func(ctx context.Context, authzid, authcid string, again bool) ([]ScramKey, error)

// Scram is the server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), with several
// passwords of a person at once. It is a conversation of package scram for the
// challenge, and one for each password when the proof has come: a conversation is
// made of what both sides have said and of the nonce, so each can be had again.
type Scram struct {
	config   ScramConfig
	plus     bool
	bindings map[string][]byte
	lookup   ScramLookup

	state     int // 0 new, 1 the client was asked to speak, 2 challenged, 3 over
	nonce     string
	first     string
	binding   scram.ChannelBinding
	names     [2]string // authzid, authcid
	candidate int
}

// NewScram returns the server of one exchange of mech. bindings are those that the
// TLS connection has, by type (RFC 5929, RFC 9266); SCRAM-SHA-256-PLUS was offered if
// there are any.
func NewScram(mech string, config ScramConfig, bindings map[string][]byte, lookup ScramLookup) *Scram {
	return &Scram{config: config, plus: mech == ScramSHA256Plus, bindings: bindings, lookup: lookup, candidate: -1}
}

// Candidate returns which of the ScramKeys the client has proved to know, when the
// exchange is done.
func (s *Scram) Candidate() int { return s.candidate }

// Next takes a response of the client, nil for no initial response, and returns the
// next challenge; or that the exchange has succeeded, with the server's own proof
// for the client. Errors are ErrMalformed, ErrProof, ErrBinding, or of the lookup.
func (s *Scram) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	if response == nil && s.state == 0 {
		s.state = 1 // RFC 5802 §5: the client speaks first
		return []byte{}, false, nil
	}
	if len(response) > maxScram || !utf8.Valid(response) {
		s.state = 3
		return nil, false, ErrMalformed
	}
	switch s.state {
	case 0, 1:
		if challenge, err = s.begin(string(response)); err != nil {
			s.state = 3
			return nil, false, err
		}
		s.state = 2
		return challenge, false, nil
	case 2:
		s.state = 3
		challenge, err = s.end(ctx, string(response))
		return challenge, err == nil, err
	}
	return nil, false, ErrMalformed
}

// begin reads the client's first message and returns the server's.
func (s *Scram) begin(first string) ([]byte, error) {
	if err := s.bind(first); err != nil {
		return nil, err
	}
	var nonce [18]byte
	rand.Read(nonce[:])
	s.first, s.nonce = first, base64.StdEncoding.EncodeToString(nonce[:])
	conv, err := s.conversation(ScramKey{})
	if err != nil {
		return nil, err
	}
	challenge, err := conv.Step(first)
	if err != nil { // without the cause, which quotes what a stranger wrote
		return nil, ErrMalformed
	}
	s.names = [2]string{conv.AuthzID(), conv.Username()}
	return []byte(challenge), nil
}

// bind takes the binding that the client wants, by the flag at the beginning of its
// first message (RFC 5802 §6).
func (s *Scram) bind(first string) error {
	flag, _, _ := strings.Cut(first, ",")
	kind, wanted := strings.CutPrefix(flag, "p=")
	switch {
	case wanted != s.plus: // the flag and the mechanism say the same, or neither does
		return ErrBinding
	case flag == "y" && len(s.bindings) > 0: // it knows bindings, and was not told that we do
		return ErrBinding
	case !wanted:
		return nil
	}
	data, ok := s.bindings[kind]
	if !ok {
		return ErrBinding
	}
	s.binding = scram.ChannelBinding{Type: scram.ChannelBindingType(kind), Data: data}
	return nil
}

// conversation makes the conversation of this exchange, with the keys of one password.
func (s *Scram) conversation(k ScramKey) (*scram.ServerConversation, error) {
	keys := scram.StoredCredentials{KeyFactors: scram.KeyFactors{Salt: string(s.config.Salt), Iters: s.config.Iterations}, StoredKey: k.StoredKey, ServerKey: k.ServerKey}
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return keys, nil })
	if err != nil {
		return nil, err
	}
	server.WithNonceGenerator(func() string { return s.nonce })
	if s.plus {
		return server.NewConversationWithChannelBindingRequired(s.binding), nil
	}
	return server.NewConversation(), nil
}

// end reads the client's final message, and returns the server's if the proof in it
// is right for one of the passwords. One that is wrong for a reason of its own is so
// before anybody is looked up.
func (s *Scram) end(ctx context.Context, final string) ([]byte, error) {
	none := ScramKey{make([]byte, 32), make([]byte, 32)} // that no password has
	if _, err := s.judge(final, none); !errors.Is(err, ErrProof) {
		return nil, cmp.Or(err, ErrProof)
	}
	for _, again := range []bool{false, true} {
		keys, err := s.lookup(ctx, s.names[0], s.names[1], again)
		if err != nil {
			return nil, err
		}
		for i, k := range keys {
			if verifier, err := s.judge(final, k); err == nil {
				s.candidate = i
				return []byte(verifier), nil
			}
		}
	}
	return nil, ErrProof
}

// judge has the conversation again with the keys of one password.
func (s *Scram) judge(final string, k ScramKey) (verifier string, err error) {
	conv, err := s.conversation(k)
	if err != nil {
		return "", err
	}
	if _, err := conv.Step(s.first); err != nil {
		return "", ErrMalformed
	}
	verifier, err = conv.Step(final)
	switch {
	case err == nil && conv.Valid():
		return verifier, nil
	case verifier == scram.ErrInvalidProof:
		return "", ErrProof
	case verifier == scram.ErrChannelBindingsDontMatch:
		return "", ErrBinding
	}
	return "", ErrMalformed
}
