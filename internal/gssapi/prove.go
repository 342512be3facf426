package gssapi

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// Proof is what a domain says of somebody whose password was right.
type Proof struct {
	Principal string // as the KDC has it, without realm
	Realm     string
	SID       string // "S-1-5-21-…", from the certificate in the ticket; "" where there is none
}

// Prove judges the password of who: with it it gets a ticket for our own account,
// and opens that with our keytab. A KDC that is forged lets anybody in, but it
// does not have our key and cannot make such a ticket (RFC 4120 §1.1 speaks of
// verifying an initial ticket so). own needs a Principal that is a service to the
// KDC: in Active Directory, an account with a servicePrincipalName.
//
// A [RefusedError] is the KDC's no, which it says without proof: a password is
// never right because of it. Other errors mean that the password was not judged.
func Prove(ctx context.Context, who, own Account) (*Proof, error) {
	if who.Password == "" { // a keytab would not be a password
		return nil, errors.New("no password")
	}
	i, err := NewInitiator(who)
	if err != nil {
		return nil, err
	}
	return i.Prove(ctx, own)
}

// Prove is [Prove] for an account that has its Initiator.
func (i *Initiator) Prove(ctx context.Context, own Account) (*Proof, error) {
	granting, err := i.grantingTicket(ctx)
	if err != nil {
		return nil, err
	}
	key, err := findKey(own.Keytab, own.Principal, own.Realm)
	if err != nil {
		return nil, err
	}
	name := types.PrincipalName{NameType: nametype.KRB_NT_PRINCIPAL, NameString: key.components}
	if len(key.components) > 1 {
		name.NameType = nametype.KRB_NT_SRV_HST
	}
	t, err := i.serviceTicket(ctx, granting, name)
	if err != nil {
		// Of us, not of the person: never a RefusedError.
		refused, ok := errors.AsType[*RefusedError](err)
		if ok && (refused.Code == CodeUnknownService || refused.Code == errorcode.KDC_ERR_MUST_USE_USER2USER) {
			err = fmt.Errorf("%w: it is no service, which 'setspn -S imap/HOST %s' makes it", err, own.Principal)
		}
		return nil, fmt.Errorf("get a ticket for our own account %s: %v", key.principal(), err)
	}
	p, err := i.verify(t, own.Keytab)
	if err != nil {
		return nil, fmt.Errorf("ticket for our own account %s: %w", key.principal(), err)
	}
	return p, nil
}

// errForged reports a ticket that nobody made who has our key.
var errForged = errors.New("was not made with its key: the KDC is a forged one, or the keytab is not that of the account (any more)")

// verify opens a ticket for us, and compares it with what the KDC said of it.
func (i *Initiator) verify(t ticket, keytab []byte) (*Proof, error) {
	plain, key, err := openTicket(t.Ticket, keytab)
	if err != nil {
		return nil, err
	}
	var part messages.EncTicketPart
	if err := part.Unmarshal(plain); err != nil {
		return nil, err
	}
	now := i.now()
	switch {
	// Who repeats a ticket of somebody else does not know the key in it, and a
	// ticket of his own is for another name.
	case part.Key.KeyType != t.key.KeyType || subtle.ConstantTimeCompare(part.Key.KeyValue, t.key.KeyValue) != 1:
		return nil, errForged
	case part.CRealm != i.account.Realm || !strings.EqualFold(part.CName.PrincipalNameString(), i.cname.PrincipalNameString()):
		return nil, fmt.Errorf("is that of %s@%s", part.CName.PrincipalNameString(), part.CRealm)
	case part.EndTime.Before(now.Add(-maxSkew)) || part.StartTime.After(now.Add(maxSkew)):
		return nil, errors.New("is not of this time")
	}
	p := &Proof{Principal: part.CName.PrincipalNameString(), Realm: part.CRealm}
	p.SID, err = certifiedSID(part, key)
	return p, err
}

// openTicket decrypts a ticket with the key that it names, of whatever principal:
// all of an account are the same.
func openTicket(t messages.Ticket, keytab []byte) ([]byte, types.EncryptionKey, error) {
	entries, err := parseKeytab(keytab)
	if err != nil {
		return nil, types.EncryptionKey{}, err
	}
	tried := make(map[string]bool)
	for _, e := range entries {
		// Some KDCs leave out the number, and what a read-only DC adds to it
		// does not count.
		number := t.EncPart.KVNO == 0 || uint16(t.EncPart.KVNO) == uint16(e.kvno)
		if !isUsable(e.key) || e.key.KeyType != t.EncPart.EType || !number || tried[string(e.key.KeyValue)] {
			continue
		}
		tried[string(e.key.KeyValue)] = true
		if plain, err := decrypt(t.EncPart, e.key, keyusage.KDC_REP_TICKET); err == nil {
			return plain, e.key, nil
		}
	}
	if len(tried) == 0 {
		return nil, types.EncryptionKey{}, fmt.Errorf("is made with key number %d of encryption type %d, which the keytab does not have", t.EncPart.KVNO, t.EncPart.EType)
	}
	return nil, types.EncryptionKey{}, errForged
}

// MayChange reports whether the password of who is right though it must be changed
// before anything else, by a ticket for the service of the change, which is given
// for such a password too. A forged KDC could say so: nobody may be let in by it.
func MayChange(ctx context.Context, who Account) (bool, error) {
	i, err := NewInitiator(who)
	if err != nil {
		return false, err
	}
	_, err = i.authenticate(ctx, types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{"kadmin", "changepw"}})
	var refused *RefusedError
	if errors.As(err, &refused) {
		return false, nil
	}
	return err == nil, err
}
