package krb5

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"dirpost/internal/gssapi"
)

// ErrMalformed reports what cannot be read, or does not belong where it comes.
var ErrMalformed = errors.New("malformed Kerberos exchange")

// maxAuthzid bounds an authorization identity, in octets.
const maxAuthzid = 512

// noLayer is the security layer "none" of RFC 4752 §3.3, which is all that there is
// inside TLS. As offer and as choice three octets follow it: how long a message may
// be, 0 without a layer.
const noLayer = 1

// Exchange is the server's side of SASL GSSAPI (RFC 4752 §3.2). It is used up when it
// is done or has returned an error.
type Exchange struct {
	acceptor *Acceptor
	door     gssapi.Door
	stage    stage
	accepted *gssapi.Accepted
	authzid  string
}

// stage is what the client sends next.
type stage uint8

const (
	stageToken stage = iota
	stageEmpty
	stageChoice
	stageOver
)

// Begin starts an exchange on a connection over TLS.
func (a *Acceptor) Begin(protocol string, c Channel) *Exchange {
	return &Exchange{acceptor: a, door: a.door(protocol, c)}
}

// Next takes a response of the client, nil for no initial response, and returns the
// next challenge, or that the client has proved who it is. Errors are ErrMalformed or
// a *[gssapi.TokenError].
func (x *Exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	at := x.stage
	x.stage = stageOver
	switch at {
	case stageToken:
		if len(response) == 0 { // the client begins (RFC 4752 §3.1)
			if response != nil {
				return nil, false, ErrMalformed
			}
			x.stage = stageToken
			return []byte{}, false, nil
		}
	case stageEmpty:
		if len(response) != 0 {
			return nil, false, ErrMalformed
		}
		return x.offer()
	case stageChoice:
		return nil, true, x.choose(response)
	default:
		return nil, false, ErrMalformed
	}
	if x.accepted, err = x.acceptor.gss.Accept(response, x.door); err != nil {
		return nil, false, err
	}
	if x.accepted.Reply == nil {
		return x.offer()
	}
	x.stage = stageEmpty
	return x.accepted.Reply, false, nil
}

// offer is the first message in the context: which layers there are.
func (x *Exchange) offer() (challenge []byte, done bool, err error) {
	x.stage = stageChoice
	challenge, err = x.accepted.Context.Sign([]byte{noLayer, 0, 0, 0})
	return challenge, false, err
}

// choose reads the second one: which layer the client wants, and who it wants to be.
func (x *Exchange) choose(token []byte) error {
	choice, _, err := x.accepted.Context.Open(token)
	if err != nil {
		return gssapi.Forged(x.Peer(), err)
	}
	if len(choice) < 4 || choice[0] != noLayer {
		return fmt.Errorf("%w: client wants a security layer, and TLS is the one that there is", ErrMalformed)
	}
	authzid := string(choice[4:])
	if len(authzid) > maxAuthzid || !utf8.ValidString(authzid) || strings.ContainsRune(authzid, 0) {
		return ErrMalformed
	}
	x.authzid = authzid
	return nil
}

// Peer is whose the ticket is, nil before it was judged. It has proved to have the
// key in the ticket; whether the exchange is done, Next says.
func (x *Exchange) Peer() *gssapi.Peer {
	if x.accepted == nil {
		return nil
	}
	return &x.accepted.Peer
}

// Authzid is on whose behalf the client wants to act, "" for its own.
func (x *Exchange) Authzid() string { return x.authzid }
