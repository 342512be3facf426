package gssapi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/addrtype"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// The results of a change, RFC 3244 §2.
const (
	ChangeMalformed = 1
	ChangeHard      = 2
	ChangeAuth      = 3 // who asks was not believed
	ChangeSoft      = 4 // the new password is against the rules
	ChangeDenied    = 5 // who asks may not
)

// ChangeError is what a password server answers that does not change a password.
type ChangeError struct {
	Result int    // one of the constants above, or another number
	Text   string // in words, "" for none; at most 300 octets
	// The rules of the domain, where an Active Directory tells them with ChangeSoft.
	Rules *ChangeRules
}

// ChangeRules are the rules for passwords of an Active Directory, as its password
// server tells them.
type ChangeRules struct {
	MinLength int
	History   int
	Complex   bool
	MinAge    time.Duration
}

// Error implements error.
func (e *ChangeError) Error() string {
	return fmt.Sprintf("password server refuses the change: result %d %s", e.Result, e.Text)
}

// changePort is that of the password server, which is where the KDC is.
const changePort = "464"

// maxChange bounds an answer, in octets.
const maxChange = 1 << 16

// changeService is whose ticket is given also for a password that has expired.
var changeService = types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{"kadmin", "changepw"}}

// ChangePassword changes the password of who to next, by the protocol of RFC 3244
// over TCP. It works with a password that has expired, too. A [RefusedError] is the
// KDC's no to the old password, a [ChangeError] the password server's to the new
// one; after any other error it is not known whether the password was changed.
func ChangePassword(ctx context.Context, who Account, next string) error {
	if who.Password == "" || next == "" {
		return errors.New("no password")
	}
	i, err := NewInitiator(who)
	if err != nil {
		return err
	}
	t, err := i.authenticate(ctx, changeService)
	if err != nil {
		return err
	}
	b, key, err := i.changeRequest(t, next)
	if err != nil { // never with the cause, which might quote
		return errors.New("no request can be made to change the password")
	}
	var errs []error
	for n, kdc := range i.kdcs {
		host, _, err := net.SplitHostPort(kdc)
		if err != nil {
			host = kdc
		}
		server := net.JoinHostPort(host, changePort)
		answer, sent, err := askChange(ctx, server, b, len(i.kdcs)-n)
		if err == nil {
			return readChange(answer, key)
		}
		errs = append(errs, fmt.Errorf("password server %s: %w", server, err))
		if sent || ctx.Err() != nil { // a second time it would be another change
			break
		}
	}
	return errors.Join(errs...)
}

// changeVersion is that of a person who changes the own password: the data are the new
// one, and nothing else (RFC 3244 §2 has another one for who sets passwords of others,
// which a domain controller refuses from anybody else).
const changeVersion = 1

// changeRequest makes a request, and the key that the answer is encrypted with.
func (i *Initiator) changeRequest(t ticket, next string) ([]byte, types.EncryptionKey, error) {
	none := types.EncryptionKey{}
	auth, err := types.NewAuthenticator(i.key.realm, i.cname)
	if err != nil {
		return nil, none, err
	}
	if err := auth.GenerateSeqNumberAndSubKey(t.key.KeyType, keySizes[t.key.KeyType]); err != nil {
		return nil, none, err
	}
	req, err := messages.NewAPReq(t.Ticket, t.key, auth)
	if err != nil {
		return nil, none, err
	}
	private := messages.NewKRBPriv(messages.EncKrbPrivPart{
		UserData: []byte(next), Timestamp: auth.CTime, Usec: auth.Cusec, SequenceNumber: auth.SeqNumber,
		SAddress: types.HostAddress{AddrType: addrtype.IPv4, Address: make([]byte, 4)}, // must be there, and says nothing
	})
	if err := private.EncryptEncPart(auth.SubKey); err != nil {
		return nil, none, err
	}
	head, err := req.Marshal()
	if err != nil {
		return nil, none, err
	}
	body, err := private.Marshal()
	if err != nil {
		return nil, none, err
	}
	size := 6 + len(head) + len(body)
	if size > maxChange-1 {
		return nil, none, errors.New("request is too long")
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(size))
	b = binary.BigEndian.AppendUint16(b, changeVersion)
	b = binary.BigEndian.AppendUint16(b, uint16(len(head)))
	return append(append(b, head...), body...), auth.SubKey, nil
}

// askChange sends a request, and reports whether it may have been read.
func askChange(ctx context.Context, server string, req []byte, left int) (answer []byte, sent bool, err error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
		defer cancel()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(req))), req...)); err != nil {
		return nil, true, err
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, true, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxChange {
		return nil, true, fmt.Errorf("answer of %d octets", n)
	}
	answer = make([]byte, n)
	_, err = io.ReadFull(conn, answer)
	return answer, true, err
}

// readChange reads an answer, RFC 3244 §2: nil means changed. Only what is encrypted
// with the key of the request is believed.
func readChange(b []byte, key types.EncryptionKey) error {
	if len(b) < 6 || int(binary.BigEndian.Uint16(b)) != len(b) {
		return errors.New("answer of the password server is cut off")
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	body := b[6:]
	if length > len(body) {
		return errors.New("answer of the password server is cut off")
	}
	if length == 0 {
		var k messages.KRBError
		if err := k.Unmarshal(body); err != nil {
			return errors.New("answer of the password server cannot be read")
		}
		if len(k.EData) < 2 {
			return fmt.Errorf("password server: %s", k.EText)
		}
		return changeResult(k.EData)
	}
	var private messages.KRBPriv
	if err := private.Unmarshal(body[length:]); err != nil {
		return errors.New("answer of the password server cannot be read")
	}
	plain, err := decrypt(private.EncPart, key, privateUsage)
	if err != nil {
		return fmt.Errorf("answer of the password server: %w", err)
	}
	var part messages.EncKrbPrivPart
	if err := part.Unmarshal(plain); err != nil || len(part.UserData) < 2 {
		return errors.New("answer of the password server cannot be read")
	}
	if binary.BigEndian.Uint16(part.UserData) == 0 {
		return nil
	}
	return changeResult(part.UserData)
}

// privateUsage is the key usage of KRB-PRIV (RFC 4120 §7.5.1).
const privateUsage = 13

// changeResult is the error that a result is. A result of 0 that nobody has encrypted
// is none.
func changeResult(data []byte) error {
	e := &ChangeError{Result: int(binary.BigEndian.Uint16(data))}
	data = data[2:]
	if e.Rules = changeRules(data); e.Rules == nil {
		e.Text = strings.ToValidUTF8(string(data[:min(len(data), 300)]), "?")
	}
	if e.Result == 0 {
		return errors.New("password server says that the password was changed, without showing who it is")
	}
	return e
}

// changeRules reads what an Active Directory says instead of words: two zero octets,
// then length, history, properties, and the two ages.
func changeRules(data []byte) *ChangeRules {
	const size = 2 + 3*4 + 2*8
	if len(data) != size || data[0] != 0 || data[1] != 0 {
		return nil
	}
	number := func(at int) int { return int(min(binary.BigEndian.Uint32(data[at:]), 1<<20)) }
	r := &ChangeRules{MinLength: number(2), History: number(6), Complex: data[13]&1 != 0}
	if age := binary.BigEndian.Uint64(data[22:]); age < 1<<60 {
		r.MinAge = time.Duration(age) * 100
	}
	return r
}
