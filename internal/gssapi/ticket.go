package gssapi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// Account is who we are to a KDC.
type Account struct {
	Principal string   // without realm: svc-mail, MAIL$, imap/mail.corp.example
	Realm     string   // in any case; the keytab has it as it is
	Keytab    []byte   // content of the file, with an AES key of Principal
	Password  string   // instead of Keytab
	KDCs      []string // host:port, asked in this order; see SetKDCs
}

// Initiator gets tickets for an account and starts contexts with them. It keeps
// the tickets until shortly before their end.
type Initiator struct {
	account Account
	key     keyEntry // of the keytab; with a password its realm alone
	cname   types.PrincipalName
	now     func() time.Time

	mu      sync.Mutex // guards tickets and kdcs
	tickets map[string]ticket
	kdcs    []string
}

// ticket is a ticket with the key in it.
type ticket struct {
	messages.Ticket
	key types.EncryptionKey
	end time.Time
}

const (
	// maxReply bounds what a KDC may say, in octets. A ticket for a member of
	// 1,000 groups has 50 KiB.
	maxReply = 1 << 20
	// maxSkew is how far clocks may differ (RFC 4120 §7.5.4 recommends it).
	maxSkew = 5 * time.Minute
	// ticketLife is how long we ask a ticket to be good; the KDC may say less.
	ticketLife = 10 * time.Hour
)

// NewInitiator returns an Initiator. It asks no KDC.
func NewInitiator(a Account) (*Initiator, error) {
	i := &Initiator{account: a, now: time.Now, tickets: make(map[string]ticket)}
	if a.Password != "" {
		i.key = keyEntry{realm: strings.ToUpper(a.Realm), components: strings.Split(a.Principal, "/")}
	} else {
		var err error
		if i.key, err = findKey(a.Keytab, a.Principal, a.Realm); err != nil {
			return nil, err
		}
	}
	i.kdcs = a.KDCs
	i.account.Realm = i.key.realm // case counts for Kerberos, and people write it small
	i.cname = types.PrincipalName{NameType: nametype.KRB_NT_PRINCIPAL, NameString: i.key.components}
	return i, nil
}

// SetKDCs names those who give tickets, where they are found later than the
// account is known, or have changed.
func (i *Initiator) SetKDCs(kdcs []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.kdcs = kdcs
}

// aes are the encryption types that we ask for, the better one first.
var aes = []int32{etypeID.AES256_CTS_HMAC_SHA1_96, etypeID.AES128_CTS_HMAC_SHA1_96}

// options are those of our requests; etypes are the types of the key that the
// answer may be encrypted with.
func options(etypes []int32) *config.Config {
	c := config.New()
	c.LibDefaults.NoAddresses = true
	c.LibDefaults.TicketLifetime = ticketLife
	c.LibDefaults.RenewLifetime = 0
	c.LibDefaults.Canonicalize = false
	c.LibDefaults.DefaultTktEnctypeIDs = etypes
	c.LibDefaults.DefaultTGSEnctypeIDs = aes
	return c
}

// Forget drops the ticket for a service: its server has refused it, perhaps
// since its key was changed.
func (i *Initiator) Forget(service string, instance ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.tickets, serviceName(service, instance))
}

func serviceName(service string, instance []string) string {
	return strings.Join(append([]string{service}, instance...), "/")
}

// ticket returns a ticket for a service, a kept one if it is good for some time
// still. Each new one begins with the key of the account: connections are made
// seldom, and a ticket-granting ticket kept would be one more thing that ends at
// the wrong time.
func (i *Initiator) ticket(ctx context.Context, service string, instance ...string) (ticket, error) {
	name := serviceName(service, instance)
	i.mu.Lock()
	t, ok := i.tickets[name]
	i.mu.Unlock()
	if ok && i.now().Add(maxSkew).Before(t.end) {
		return t, nil
	}
	t, err := i.newTicket(ctx, types.PrincipalName{NameType: nametype.KRB_NT_SRV_HST, NameString: append([]string{service}, instance...)})
	if err != nil {
		return ticket{}, err
	}
	i.mu.Lock()
	i.tickets[name] = t
	i.mu.Unlock()
	return t, nil
}

// newTicket does both exchanges.
func (i *Initiator) newTicket(ctx context.Context, service types.PrincipalName) (ticket, error) {
	granting, err := i.grantingTicket(ctx)
	if err != nil {
		return ticket{}, fmt.Errorf("log in to Kerberos as %s@%s: %w", i.account.Principal, i.account.Realm, err)
	}
	t, err := i.serviceTicket(ctx, granting, service)
	if err != nil {
		return ticket{}, fmt.Errorf("get a ticket for %s: %w", service.PrincipalNameString(), err)
	}
	return t, nil
}

// grantingTicket gets a ticket for the ticket-granting service.
func (i *Initiator) grantingTicket(ctx context.Context) (ticket, error) {
	return i.authenticate(ctx, types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{"krbtgt", i.account.Realm}})
}

// authenticate does the AS exchange, RFC 4120 §3.1, with the encrypted time
// stamp as pre-authentication.
func (i *Initiator) authenticate(ctx context.Context, service types.PrincipalName) (ticket, error) {
	key := i.key
	if i.account.Password != "" {
		var err error
		if key.key, err = i.passwordKey(ctx); err != nil {
			return ticket{}, err
		}
	}
	// The pre-authentication is made of one key, so the KDC may answer with its
	// type alone.
	req, err := messages.NewASReq(i.account.Realm, options([]int32{key.key.KeyType}), i.cname, service)
	if err != nil {
		return ticket{}, err
	}
	now := i.now().UTC()
	req.ReqBody.Till = now.Add(ticketLife)
	stamp, err := asn1.Marshal(types.PAEncTSEnc{PATimestamp: now, PAUSec: now.Nanosecond() / 1000})
	if err != nil {
		return ticket{}, err
	}
	sealed, err := crypto.GetEncryptedData(stamp, key.key, keyusage.AS_REQ_PA_ENC_TIMESTAMP, int(key.kvno))
	if err != nil {
		return ticket{}, err
	}
	pa, err := sealed.Marshal()
	if err != nil {
		return ticket{}, err
	}
	req.PAData = types.PADataSequence{{PADataType: patype.PA_ENC_TIMESTAMP, PADataValue: pa}}
	b, err := req.Marshal()
	if err != nil {
		return ticket{}, err
	}
	if b, err = i.ask(ctx, b); err != nil {
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			refused.Tried = refused.password
		}
		return ticket{}, err
	}
	var rep messages.ASRep
	if err := rep.Unmarshal(b); err != nil {
		return ticket{}, fmt.Errorf("answer of the KDC: %w", err)
	}
	return i.open(rep.KDCRepFields, req.ReqBody, key.key, keyusage.AS_REP_ENCPART)
}

// serviceTicket does the TGS exchange, RFC 4120 §3.3.
func (i *Initiator) serviceTicket(ctx context.Context, granting ticket, service types.PrincipalName) (ticket, error) {
	req, err := messages.NewTGSReq(i.cname, i.account.Realm, options(aes), granting.Ticket, granting.key, service, false)
	if err != nil {
		return ticket{}, err
	}
	b, err := req.Marshal()
	if err != nil {
		return ticket{}, err
	}
	if b, err = i.ask(ctx, b); err != nil {
		return ticket{}, err
	}
	var rep messages.TGSRep
	if err := rep.Unmarshal(b); err != nil {
		return ticket{}, fmt.Errorf("answer of the KDC: %w", err)
	}
	return i.open(rep.KDCRepFields, req.ReqBody, granting.key, keyusage.TGS_REP_ENCPART_SESSION_KEY)
}

// open decrypts a reply and compares it with the request: only who has the key
// could have made it, and it must be the answer to this request (RFC 4120
// §3.1.5, §3.3.4).
func (i *Initiator) open(rep messages.KDCRepFields, req messages.KDCReqBody, key types.EncryptionKey, usage uint32) (ticket, error) {
	if len(rep.Ticket.SName.NameString) == 0 { // the library looks at the first
		return ticket{}, errors.New("answer of the KDC has a ticket for nobody")
	}
	plain, err := decrypt(rep.EncPart, key, usage)
	if err != nil {
		return ticket{}, fmt.Errorf("answer of the KDC: %w", err)
	}
	var part messages.EncKDCRepPart
	if err := part.Unmarshal(plain); err != nil {
		return ticket{}, fmt.Errorf("answer of the KDC: %w", err)
	}
	switch {
	case part.Nonce != req.Nonce:
		return ticket{}, errors.New("answer of the KDC is to another request")
	case part.SRealm != req.Realm || !slices.EqualFunc(part.SName.NameString, req.SName.NameString, strings.EqualFold):
		return ticket{}, fmt.Errorf("KDC gives a ticket for %s@%s: is the server in another realm?", part.SName.PrincipalNameString(), part.SRealm)
	case !isUsable(part.Key):
		return ticket{}, fmt.Errorf("KDC gives a key of encryption type %d, not AES", part.Key.KeyType)
	}
	return ticket{Ticket: rep.Ticket, key: part.Key, end: part.EndTime}, nil
}

// decrypt opens what a peer has encrypted. The library takes for granted that
// there is enough of it.
func decrypt(d types.EncryptedData, key types.EncryptionKey, usage uint32) ([]byte, error) {
	e, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return nil, err
	}
	if len(d.Cipher) < e.GetConfounderByteSize()+e.GetHMACBitLength()/8 {
		return nil, errors.New("encrypted part is too short")
	}
	return e.DecryptMessage(key.KeyValue, d.Cipher, usage)
}

// ask sends a request to the first KDC that answers (RFC 4120 §7.2.2). The time
// of ctx is shared among those that are left.
func (i *Initiator) ask(ctx context.Context, req []byte) ([]byte, error) {
	i.mu.Lock()
	kdcs := i.kdcs
	i.mu.Unlock()
	if len(kdcs) == 0 {
		return nil, errors.New("no KDC is known")
	}
	var errs []error
	for n, addr := range kdcs {
		rep, err := askKDC(ctx, addr, req, len(kdcs)-n)
		if err == nil {
			return rep, i.refusal(rep)
		}
		errs = append(errs, fmt.Errorf("KDC %s: %w", addr, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func askKDC(ctx context.Context, addr string, req []byte, left int) ([]byte, error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
		defer cancel()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(req))), req...)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxReply {
		return nil, fmt.Errorf("answer of %d octets", n)
	}
	rep, err := io.ReadAll(io.LimitReader(conn, int64(n)))
	if err == nil && len(rep) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return rep, err
}

// refusal returns the error that rep is, nil when it is none.
func (i *Initiator) refusal(rep []byte) error {
	var k messages.KRBError
	if k.Unmarshal(rep) != nil {
		return nil
	}
	return &RefusedError{
		Code: k.ErrorCode, Text: errorcode.Lookup(k.ErrorCode), Status: ntStatus(k.EData), Skew: i.now().Sub(k.STime).Round(time.Second),
		data: k.EData, password: i.account.Password != "",
	}
}

// RefusedError is what a KDC answered instead of a ticket.
type RefusedError struct {
	Code   int32         // RFC 4120 §7.5.9; the constants below
	Text   string        // the name of the code
	Status uint32        // why, as an NTSTATUS of Windows ([MS-ERREF] §2.3), 0: not said
	Skew   time.Duration // how far our clock is ahead of the KDC's, which is to the second

	// Tried says that it came to a request with a proof of the password, after one
	// without was let pass: the KDC has looked at the password, and found it right
	// unless Code is CodePassword.
	Tried bool

	data     []byte // what came with it
	password bool   // the account has a password and no keytab
}

// What a caller may want to tell apart.
const (
	CodeUnknownClient  = errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN
	CodeUnknownService = errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN
	CodePolicy         = errorcode.KDC_ERR_POLICY
	CodeNoAES          = errorcode.KDC_ERR_ETYPE_NOSUPP
	CodeRevoked        = errorcode.KDC_ERR_CLIENT_REVOKED // disabled, locked, expired: Status says it
	CodeKeyExpired     = errorcode.KDC_ERR_KEY_EXPIRED    // the password must be changed
	CodePassword       = errorcode.KDC_ERR_PREAUTH_FAILED // or a key that is not the account's
	CodeSkew           = errorcode.KRB_AP_ERR_SKEW
	CodeRealm          = errorcode.KDC_ERR_WRONG_REALM
)

// Error implements error, in the words of who has to mend it.
func (e *RefusedError) Error() string {
	advice := ""
	switch e.Code {
	case errorcode.KRB_AP_ERR_SKEW:
		where := "ahead of"
		if e.Skew < 0 {
			where = "behind"
		}
		return fmt.Sprintf("clock skew: the clock of this host is %v %s that of the KDC, and at most %v are allowed: set the clock", e.Skew.Abs(), where, maxSkew)
	case errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN:
		advice = ": correct principal or realm"
	case errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN:
		advice = ": the host must be named as in the realm, by its full name"
	case errorcode.KDC_ERR_PREAUTH_FAILED:
		advice = ": the key in the keytab is not that of the account (any more)"
		if e.password {
			advice = ": the password is wrong"
		}
	case errorcode.KDC_ERR_CLIENT_REVOKED:
		advice = ": the account is disabled, locked or expired"
	case errorcode.KDC_ERR_KEY_EXPIRED:
		advice = ": the password of the account has expired"
	case errorcode.KDC_ERR_ETYPE_NOSUPP:
		advice = ": the account has no AES key; change its password once"
	case errorcode.KDC_ERR_WRONG_REALM:
		advice = ": correct realm"
	}
	return "KDC refuses: " + e.Text + advice
}
