package gssapi

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// MaxToken bounds the first token of a client, in octets. Windows lets a token have
// 48,000 (MaxTokenSize), which a member of a thousand groups has.
const MaxToken = 48000

// A Flaw is why a token was not accepted, in one word for the audit.
type Flaw string

// The flaws of a token.
const (
	FlawMalformed Flaw = "malformed" // cannot be read, or is of another mechanism
	FlawService   Flaw = "service"   // the ticket is for another service
	FlawRealm     Flaw = "realm"     // the ticket is of a realm that we have no key in
	FlawKey       Flaw = "key"       // none of our keys opens the ticket
	FlawEtype     Flaw = "etype"     // the ticket or the client wants other keys than AES
	FlawTime      Flaw = "time"      // the ticket is not good now
	FlawSkew      Flaw = "skew"      // the clock of the client is too far from ours
	FlawReplay    Flaw = "replay"    // the token was seen before
	FlawForged    Flaw = "forged"    // who sends the ticket does not have the key in it
	FlawBinding   Flaw = "binding"   // it was made for another TLS connection, or for none
)

// TokenError is why a token was not accepted. The client is told nothing of it.
type TokenError struct {
	Flaw Flaw
	// Skew is how far the client's clock is ahead of ours, with FlawSkew and FlawTime.
	Skew time.Duration
	err  error
}

// Error implements error, in the words of who has to mend it.
func (e *TokenError) Error() string { return "Kerberos: " + e.err.Error() }

// Unwrap returns the cause.
func (e *TokenError) Unwrap() error { return e.err }

func flaw(f Flaw, format string, args ...any) *TokenError {
	return &TokenError{Flaw: f, err: fmt.Errorf(format, args...)}
}

// Forged is the flaw of somebody who has sent a ticket, and then a message that does
// not come from who has the key in it.
func Forged(p *Peer, err error) *TokenError {
	return flaw(FlawForged, "message of %s: %w", p, err)
}

// Acceptor accepts contexts that clients begin with tickets for us. The zero value
// has no keys and accepts nobody.
type Acceptor struct {
	keys    atomic.Pointer[acceptKeys]
	replays replays
	clock   func() time.Time // nil is time.Now
}

// acceptKeys are the usable keys of a keytab. They are immutable.
type acceptKeys struct {
	entries []keyEntry
	realms  []string
}

// SetKeys takes the keys of one or more keytabs; those of before are dropped, and so
// a key that was taken out opens nothing more. Without a key nobody is accepted.
func (a *Acceptor) SetKeys(keytabs ...[]byte) error {
	k := &acceptKeys{}
	for _, keytab := range keytabs {
		entries, err := parseKeytab(keytab)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !isUsable(e.key) {
				continue
			}
			k.entries = append(k.entries, e)
			if !slices.Contains(k.realms, e.realm) {
				k.realms = append(k.realms, e.realm)
			}
		}
	}
	a.keys.Store(k)
	return nil
}

// Has reports whether there is a key that a ticket for service, such as "imap",
// may be made with.
func (a *Acceptor) Has(service string) bool {
	k := a.keys.Load()
	return k != nil && slices.ContainsFunc(k.entries, func(e keyEntry) bool { return e.isFor(service) })
}

// isFor reports whether a ticket for service may be made with the key: one of its
// name, or one of the account itself, whose services all have its keys.
func (e keyEntry) isFor(service string) bool {
	return len(e.components) == 1 || len(e.components) == 2 && strings.EqualFold(e.components[0], service)
}

// Door says what a client may ask for where it is.
type Door struct {
	// Service is what the ticket must be for, as in imap/mail.corp.example: imap,
	// pop, smtp, sieve, HTTP. The host in the name may be any: what host a name is
	// good for the KDC decides, and gives it our key.
	Service string
	// Bindings are what the channel of the client may be bound to, each as RFC 5929
	// writes it ("tls-server-end-point:" and a hash). A token that is bound must be
	// bound to one of them. None: what it is bound to is not looked at.
	Bindings [][]byte
	// RequireBinding refuses tokens that are bound to nothing.
	RequireBinding bool
}

// Peer is who has sent a token, by the word of the KDC.
type Peer struct {
	Principal string // without realm, its parts with "/" between them
	Realm     string // of the principal
	Home      string // realm of our key: another one is trusted by it
	// SID is the account, "S-1-5-21-…", "" where the ticket does not say it. It is
	// the one that a domain of Active Directory has certified.
	SID string
	// Unchecked says that the ticket has passed realms that nobody has checked (RFC
	// 4120 §2.7). Who believes the SID need not look: it is certified by the last.
	Unchecked bool
	Service   string        // what the ticket is for, as the client named it: imap/mail.corp.example
	Bound     bool          // to the channel, and to ours
	Skew      time.Duration // of the client's clock, ahead of ours
	End       time.Time     // of the ticket
	// Once stands for the token, which is good once. This Acceptor takes none twice;
	// others must be told.
	Once [32]byte
}

// String is the principal with its realm.
func (p *Peer) String() string { return p.Principal + "@" + p.Realm }

// Accepted is a context with a client.
type Accepted struct {
	Peer    Peer
	Context *Context
	// Reply is for the client, and proves that we have the key; nil where it has not
	// asked for it.
	Reply []byte
}

// Accept judges the first token of a client. A token is accepted once by this
// Acceptor; others, on this host or elsewhere, do not know of it. Errors are
// *[TokenError]: none of them is the client's right to know.
func (a *Acceptor) Accept(token []byte, d Door) (*Accepted, error) {
	if len(token) > MaxToken {
		return nil, flaw(FlawMalformed, "token of %d octets", len(token))
	}
	id, body, err := unframe(token)
	if err != nil {
		return nil, flaw(FlawMalformed, "%w", err)
	}
	if id != tokenAPReq {
		return nil, flaw(FlawMalformed, "token of type %04x is no ticket", id)
	}
	var req messages.APReq
	if err := req.Unmarshal(body); err != nil {
		return nil, flaw(FlawMalformed, "%w", err)
	}
	if req.APOptions.At(flags.APOptionUseSessionKey) != 0 {
		return nil, flaw(FlawMalformed, "ticket is for a person, not for a service")
	}
	now := time.Now()
	if a.clock != nil {
		now = a.clock()
	}
	x := &acceptance{req: req, door: d, now: now}
	if err := x.openTicket(a.keys.Load()); err != nil {
		return nil, err
	}
	if err := x.openAuthenticator(); err != nil {
		return nil, err
	}
	if err := x.checkTimes(); err != nil {
		return nil, err
	}
	if err := x.checkBinding(); err != nil {
		return nil, err
	}
	if x.peer.SID, err = certifiedSID(x.ticket, x.key.key); err != nil {
		return nil, flaw(FlawForged, "%w", err)
	}
	x.peer.Once = sha256.Sum256(req.EncryptedAuthenticator.Cipher)
	if !a.replays.add(x.peer.Once, now) {
		return nil, flaw(FlawReplay, "token of %s was used before", &x.peer)
	}
	return x.answer()
}

// acceptance is what is known of one token.
type acceptance struct {
	req    messages.APReq
	door   Door
	now    time.Time
	key    keyEntry // that opened the ticket
	ticket messages.EncTicketPart
	auth   types.Authenticator
	flags  uint32 // of the context, RFC 4121 §4.1.1.1
	peer   Peer
}

// openTicket finds the key of the ticket and opens it. The names outside of the
// encrypted part are the client's word: what counts is that a key of the service
// opens it.
func (x *acceptance) openTicket(keys *acceptKeys) error {
	t := &x.req.Ticket
	service := t.SName.PrincipalNameString()
	if len(t.SName.NameString) < 2 || !strings.EqualFold(t.SName.NameString[0], x.door.Service) {
		return flaw(FlawService, "ticket is for %s, and this is the service %s", shorten(service), x.door.Service)
	}
	if keys == nil || len(keys.entries) == 0 {
		return flaw(FlawKey, "keytab has no AES key")
	}
	if !slices.ContainsFunc(keys.realms, func(r string) bool { return strings.EqualFold(r, t.Realm) }) {
		return flaw(FlawRealm, "ticket is of realm %s, and our keys are of %s", shorten(t.Realm), strings.Join(keys.realms, ", "))
	}
	plain, key, err := keys.open(t, x.door.Service)
	if err != nil {
		return err
	}
	if err := x.ticket.Unmarshal(plain); err != nil {
		return flaw(FlawMalformed, "ticket: %w", err)
	}
	if !isUsable(x.ticket.Key) {
		return flaw(FlawEtype, "session key is of encryption type %d, not AES: allow AES for the account of %s", x.ticket.Key.KeyType, shorten(service))
	}
	if len(x.ticket.CName.NameString) == 0 {
		return flaw(FlawMalformed, "ticket is nobody's")
	}
	x.key = key
	x.peer = Peer{
		Principal: x.ticket.CName.PrincipalNameString(), Realm: x.ticket.CRealm, Home: key.realm,
		Service: shorten(service), End: x.ticket.EndTime,
		Unchecked: len(x.ticket.Transited.Contents) > 0 && x.ticket.Flags.At(flags.TransitedPolicyChecked) == 0,
	}
	return nil
}

// open decrypts a ticket with the keys of a service: that of its number first, then
// all others of its type, since some KDCs leave the number out, a read-only DC adds
// to it, and some keytabs have it wrong. Whichever opens it is right.
func (k *acceptKeys) open(t *messages.Ticket, service string) ([]byte, keyEntry, error) {
	var tried, others []keyEntry
	try := func(e keyEntry) ([]byte, bool) {
		if slices.ContainsFunc(tried, func(o keyEntry) bool { return string(o.key.KeyValue) == string(e.key.KeyValue) }) {
			return nil, false
		}
		tried = append(tried, e)
		plain, err := decrypt(t.EncPart, e.key, keyusage.KDC_REP_TICKET)
		return plain, err == nil
	}
	for _, e := range k.entries {
		if e.key.KeyType != t.EncPart.EType || !strings.EqualFold(e.realm, t.Realm) || !e.isFor(service) {
			continue
		}
		if uint16(t.EncPart.KVNO) != uint16(e.kvno) {
			others = append(others, e)
			continue
		}
		if plain, ok := try(e); ok {
			return plain, e, nil
		}
	}
	number := len(tried) > 0
	for _, e := range others {
		if plain, ok := try(e); ok {
			return plain, e, nil
		}
	}
	name := shorten(t.SName.PrincipalNameString())
	switch {
	case len(tried) == 0 && keySizes[t.EncPart.EType] == 0:
		return nil, keyEntry{}, flaw(FlawEtype, "ticket for %s is made with encryption type %d, which is not AES: allow AES for its account", name, t.EncPart.EType)
	case len(tried) == 0:
		return nil, keyEntry{}, flaw(FlawKey, "keytab has no key of encryption type %d for %s", t.EncPart.EType, name)
	case number:
		return nil, keyEntry{}, flaw(FlawKey, "ticket for %s is not made with the key that we have, though its number %d is the same: is the name another account's, or was the account made again?", name, t.EncPart.KVNO)
	}
	return nil, keyEntry{}, flaw(FlawKey, "ticket for %s is made with key number %d, which the keytab does not have: the client must get a new ticket, or the keytab is out of date", name, t.EncPart.KVNO)
}

// openAuthenticator opens what the client has made with the key in the ticket, and
// compares what both say: only the ticket is the KDC's word (RFC 4120 §3.2.3).
func (x *acceptance) openAuthenticator() error {
	if x.req.EncryptedAuthenticator.EType != x.ticket.Key.KeyType {
		return flaw(FlawForged, "authenticator is not made with the key in the ticket")
	}
	plain, err := decrypt(x.req.EncryptedAuthenticator, x.ticket.Key, keyusage.AP_REQ_AUTHENTICATOR)
	if err != nil {
		return flaw(FlawForged, "authenticator of %s: %w", &x.peer, err)
	}
	if err := x.auth.Unmarshal(plain); err != nil {
		return flaw(FlawMalformed, "authenticator of %s: %w", &x.peer, err)
	}
	if x.auth.CRealm != x.ticket.CRealm || !slices.Equal(x.auth.CName.NameString, x.ticket.CName.NameString) {
		return flaw(FlawForged, "ticket of %s is sent as %s@%s", &x.peer, shorten(x.auth.CName.PrincipalNameString()), shorten(x.auth.CRealm))
	}
	// RFC 4121 §4.1.1: length of the binding, the binding, flags; a delegated ticket
	// may follow, and nobody reads it.
	sum := x.auth.Cksum
	if sum.CksumType != chksumtype.GSSAPI || len(sum.Checksum) < 24 || binary.LittleEndian.Uint32(sum.Checksum) != 16 {
		return flaw(FlawMalformed, "authenticator of %s has no checksum of the GSS-API", &x.peer)
	}
	if x.flags = binary.LittleEndian.Uint32(sum.Checksum[20:]); x.flags&flagDCE != 0 {
		return flaw(FlawMalformed, "%s wants a context of three tokens", &x.peer)
	}
	if x.auth.SubKey.KeyType != 0 && !isUsable(x.auth.SubKey) {
		return flaw(FlawEtype, "%s chose a key of encryption type %d, not AES", &x.peer, x.auth.SubKey.KeyType)
	}
	return nil
}

// The flags of a context that matter to an acceptor, RFC 4121 §4.1.1.1 and
// [MS-KILE] §3.2.5.2.
const (
	flagMutual = 2
	flagDCE    = 0x1000
)

// checkTimes compares the clocks. Both the ticket's times and the authenticator's
// are authenticated here, so the difference is the true one.
func (x *acceptance) checkTimes() error {
	made := x.auth.CTime.Add(time.Duration(x.auth.Cusec) * time.Microsecond)
	x.peer.Skew = made.Sub(x.now).Round(time.Second)
	start := x.ticket.StartTime
	if start.IsZero() { // RFC 4120 §5.3: then it is the time of authentication
		start = x.ticket.AuthTime
	}
	late := func(f Flaw, format string, args ...any) error {
		e := flaw(f, format, args...)
		e.Skew = x.peer.Skew
		return e
	}
	switch {
	case x.peer.Skew.Abs() > maxSkew:
		where := "ahead of"
		if x.peer.Skew < 0 {
			where = "behind"
		}
		return late(FlawSkew, "clock skew: the clock of the client of %s is %v %s that of this host, and at most %v are allowed: set the one that is wrong", &x.peer, x.peer.Skew.Abs(), where, maxSkew)
	case x.now.After(x.ticket.EndTime.Add(maxSkew)):
		return late(FlawTime, "ticket of %s has ended %v ago", &x.peer, x.now.Sub(x.ticket.EndTime).Round(time.Second))
	case x.now.Before(start.Add(-maxSkew)):
		return late(FlawTime, "ticket of %s begins in %v only", &x.peer, start.Sub(x.now).Round(time.Second))
	case x.ticket.Flags.At(flags.Invalid) != 0:
		return late(FlawTime, "ticket of %s is not valid yet", &x.peer)
	}
	return nil
}

// checkBinding compares what the client has bound the token to (RFC 4121
// §4.1.1.2). Zeros mean nothing.
func (x *acceptance) checkBinding() error {
	bound := x.auth.Cksum.Checksum[4:20]
	if subtle.ConstantTimeCompare(bound, make([]byte, 16)) == 1 {
		if x.door.RequireBinding {
			return flaw(FlawBinding, "%s has not bound the ticket to the TLS connection, and require_channel_binding wants it", &x.peer)
		}
		return nil
	}
	for _, b := range x.door.Bindings {
		if subtle.ConstantTimeCompare(bound, bindingHash(b)) == 1 {
			x.peer.Bound = true
			return nil
		}
	}
	if len(x.door.Bindings) == 0 && !x.door.RequireBinding {
		return nil
	}
	return flaw(FlawBinding, "%s has bound the ticket to another TLS connection: somebody may stand between it and us, or ends TLS for us with a certificate of his own", &x.peer)
}

// answer makes the context and, for a client that wants proof, the reply.
func (x *acceptance) answer() (*Accepted, error) {
	key, subkeyed := x.ticket.Key, false
	if x.auth.SubKey.KeyType != 0 {
		key = x.auth.SubKey
	}
	// Old libraries wrote the number with a sign; it has 32 bits. Without a reply
	// both sides count from the client's.
	receive := uint64(uint32(x.auth.SeqNumber))
	send := receive
	var reply []byte
	if x.flags&flagMutual != 0 {
		key, subkeyed = newKey(key.KeyType), true
		// 30 bits, so that no library takes it for negative.
		var seed [4]byte
		_, _ = rand.Read(seed[:]) // never fails
		send = uint64(binary.BigEndian.Uint32(seed[:]) >> 2)
		var err error
		reply, err = marshalAPRep(messages.EncAPRepPart{CTime: x.auth.CTime, Cusec: x.auth.Cusec, Subkey: key, SequenceNumber: int64(send)}, x.ticket.Key)
		if err != nil {
			return nil, err
		}
	}
	c, err := newContext(key, subkeyed, send, receive)
	if err != nil {
		return nil, err
	}
	c.acceptor = true
	return &Accepted{Peer: x.peer, Context: c, Reply: reply}, nil
}

// marshalAPRep makes the token of RFC 4120 §5.5.2. The time in it is that of the
// authenticator: who can read that has the key.
func marshalAPRep(part messages.EncAPRepPart, session types.EncryptionKey) ([]byte, error) {
	plain, err := asn1.Marshal(part)
	if err != nil {
		return nil, fmt.Errorf("answer to a ticket: %w", err)
	}
	sealed, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(plain, asnAppTag.EncAPRepPart), session, keyusage.AP_REP_ENCPART, 0)
	if err != nil {
		return nil, errors.New("answer to a ticket cannot be encrypted")
	}
	b, err := asn1.Marshal(messages.APRep{PVNO: 5, MsgType: msgtype.KRB_AP_REP, EncPart: sealed})
	if err != nil {
		return nil, fmt.Errorf("answer to a ticket: %w", err)
	}
	return frame(tokenAPRep, asn1tools.AddASNAppTag(b, asnAppTag.APREP)), nil
}

// shorten bounds what a stranger can write into the log.
func shorten(s string) string {
	const most = 128
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
