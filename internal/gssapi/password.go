package gssapi

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// How often a password may be hashed to make a key of it (RFC 3962 §4). What the
// KDC says of it is not authenticated: more would take our time, and less would
// make guessing cheap for who listens.
const (
	minIterations = 4096
	maxIterations = 1 << 16
)

// A derivation is how a key is made of a password.
type derivation struct {
	etype  int32
	salt   string
	params string // of the library: iterations in hexadecimal
}

func (d derivation) key(password string) (types.EncryptionKey, error) {
	e, err := crypto.GetEtype(d.etype)
	if err != nil {
		return types.EncryptionKey{}, err
	}
	if d.params == "" {
		d.params = e.GetDefaultStringToKeyParams()
	}
	value, err := e.StringToKey(password, d.salt, d.params)
	if err != nil { // never with the cause, which might quote
		return types.EncryptionKey{}, errors.New("no key can be made of the password")
	}
	return types.EncryptionKey{KeyType: d.etype, KeyValue: value}, nil
}

// passwordKey makes the key of the account's password.
func (i *Initiator) passwordKey(ctx context.Context) (types.EncryptionKey, error) {
	d, err := i.derivation(ctx)
	if err != nil {
		return types.EncryptionKey{}, err
	}
	return d.key(i.account.Password)
}

// derivation asks the KDC: a request without pre-authentication is refused with
// the salt in the refusal (RFC 4120 §5.2.7.5). An account that was renamed keeps
// its old one, so no rule could tell it.
func (i *Initiator) derivation(ctx context.Context) (derivation, error) {
	b, err := i.askDerivation(ctx)
	var refused *RefusedError
	switch {
	case errors.As(err, &refused) && refused.Code == errorcode.KDC_ERR_PREAUTH_REQUIRED:
		var data types.PADataSequence
		if err := data.Unmarshal(refused.data); err != nil {
			return derivation{}, fmt.Errorf("answer of the KDC: %w", err)
		}
		return i.chooseDerivation(data)
	case err != nil:
		return derivation{}, err
	}
	// An account that needs no pre-authentication. We send one all the same, so
	// that the KDC counts what is wrong.
	var rep messages.ASRep
	if err := rep.Unmarshal(b); err != nil {
		return derivation{}, fmt.Errorf("answer of the KDC: %w", err)
	}
	return i.chooseDerivation(rep.PAData)
}

// askDerivation sends a request without pre-authentication, and returns the answer.
func (i *Initiator) askDerivation(ctx context.Context) ([]byte, error) {
	req, err := messages.NewASReq(i.account.Realm, options(aes), i.cname, types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{"krbtgt", i.account.Realm}})
	if err != nil {
		return nil, err
	}
	req.ReqBody.Till = i.now().UTC().Add(ticketLife)
	b, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	return i.ask(ctx, b)
}

// chooseDerivation takes the first that we can use, in the KDC's order.
func (i *Initiator) chooseDerivation(data types.PADataSequence) (derivation, error) {
	for _, pa := range data {
		if pa.PADataType != patype.PA_ETYPE_INFO2 {
			continue
		}
		var infos types.ETypeInfo2
		if err := infos.Unmarshal(pa.PADataValue); err != nil {
			return derivation{}, fmt.Errorf("answer of the KDC: %w", err)
		}
		for _, info := range infos {
			if !slices.Contains(aes, info.EType) {
				continue
			}
			d := derivation{etype: info.EType, salt: info.Salt}
			if d.salt == "" {
				d.salt = i.cname.GetSalt(i.account.Realm)
			}
			if len(info.S2KParams) > 0 {
				if len(info.S2KParams) != 4 {
					return derivation{}, errors.New("KDC wants a key made in an unknown way")
				}
				if n := binary.BigEndian.Uint32(info.S2KParams); n < minIterations || n > maxIterations {
					return derivation{}, fmt.Errorf("KDC wants the password hashed %d times: not less than %d and not more than %d", n, minIterations, maxIterations)
				}
				d.params = hex.EncodeToString(info.S2KParams)
			}
			return d, nil
		}
	}
	return derivation{}, &RefusedError{Code: CodeNoAES, Text: errorcode.Lookup(CodeNoAES)}
}

// Salt asks the KDC for what keys of the account's password are salted with. The
// answer is not authenticated: a wrong one gives a keytab that does not work.
func Salt(ctx context.Context, a Account) (string, error) {
	a.Password = "-" // none is needed, and none is sent
	i, err := NewInitiator(a)
	if err != nil {
		return "", err
	}
	d, err := i.derivation(ctx)
	if err != nil {
		return "", fmt.Errorf("ask for the salt of %s@%s: %w", a.Principal, a.Realm, err)
	}
	return d.salt, nil
}

// Clock asks a KDC what time it has, and returns how far our clock is ahead of it, to
// the second. a needs Realm and KDCs. The answer is not authenticated.
func Clock(ctx context.Context, a Account) (ahead time.Duration, err error) {
	a.Principal, a.Password = "clock", "-" // whoever that is, there is no password
	i, err := NewInitiator(a)
	if err != nil {
		return 0, err
	}
	_, err = i.askDerivation(ctx)
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Skew, nil
	}
	if err == nil {
		err = errors.New("the KDC gives tickets to whoever asks")
	}
	return 0, fmt.Errorf("ask a KDC of %s for the time: %w", a.Realm, err)
}

// kerbErrorData is KERB-ERROR-DATA of [MS-KILE] §2.2.1.
type kerbErrorData struct {
	Type  int    `asn1:"explicit,tag:1"`
	Value []byte `asn1:"optional,explicit,tag:2"`
}

// extendedError is KERB_ERR_TYPE_EXTENDED of [MS-KILE] §2.2.1.
const extendedError = 3

// ntStatus reads the reason of a refusal from what came with it: KERB-EXT-ERROR
// ([MS-KILE] §2.2.2), by Windows in KERB-ERROR-DATA, by Samba as PA-PW-SALT
// among the data of pre-authentication. 0: not there.
func ntStatus(data []byte) uint32 {
	var k kerbErrorData
	if rest, err := asn1.Unmarshal(data, &k); err == nil && len(rest) == 0 && k.Type == extendedError {
		return statusOf(k.Value)
	}
	var list types.PADataSequence
	if list.Unmarshal(data) != nil {
		return 0
	}
	for _, pa := range list {
		if pa.PADataType == patype.PA_PW_SALT {
			return statusOf(pa.PADataValue)
		}
	}
	return 0
}

// statusOf reads KERB-EXT-ERROR: status, reserved, flags.
func statusOf(b []byte) uint32 {
	if len(b) != 12 {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}
