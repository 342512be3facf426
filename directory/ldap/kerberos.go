package ldap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/gssapi"
)

// judgesByKerberos reports whether no password is to be sent to a server.
func (c *Client) judgesByKerberos() bool {
	switch c.cfg.Passwords {
	case PasswordsKerberos:
		return true
	case PasswordsAuto:
		return c.cfg.TLS == tlsNone && c.cfg.byKerberos()
	}
	return false
}

// isWithoutTLS reports whether err means that the servers have no TLS, so that
// Kerberos shall judge.
func (c *Client) isWithoutTLS(err error) bool {
	return c.cfg.Passwords == PasswordsAuto && c.cfg.byKerberos() && errors.Is(err, errNoTLS)
}

// logon is what the domain has of a person now.
type logon struct {
	name string // sAMAccountName
	sid  string
	// Why the account may not be used, 0 if it may: for KDCs that do not say it.
	reason directory.Reason
	// Whether the password must be changed because somebody has reset it, and not
	// because it is old.
	reset bool
}

// verifyByKerberos judges the password of e by a ticket that our own key opens.
// What the directory says of the entry is read now, by a sealed connection: a name
// may have been given to somebody else since the snapshot.
func (c *Client) verifyByKerberos(ctx context.Context, e *directory.Entry, password string) error {
	id := c.dialer.machine.Load()
	if id == nil {
		return fmt.Errorf("directory %q: passwords are judged by Kerberos: %w", c.cfg.Name, ErrNotJoined)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	person, err := c.readLogon(ctx, e)
	if err != nil {
		return err
	}
	if person == nil { // gone since the snapshot
		return &directory.Refusal{Reason: directory.ReasonPassword, Diagnostic: "no such account"}
	}
	who := gssapi.Account{Principal: person.name, Realm: id.own.Realm, Password: password, KDCs: id.own.KDCs}
	proof, err := gssapi.Prove(ctx, who, id.own)
	var refused *gssapi.RefusedError
	switch {
	case errors.As(err, &refused):
		return c.judgeKDC(ctx, refused, person, who)
	case err != nil:
		return fmt.Errorf("judge a password by Kerberos: %w", err)
	case proof.SID != person.sid:
		return fmt.Errorf("judge a password by Kerberos: the ticket of %s is that of %s, and the entry is %s", person.name, proof.SID, person.sid)
	}
	return nil
}

// checkKerberos proves that passwords could be judged: our own key gets a ticket
// for our own account.
func (c *Client) checkKerberos(ctx context.Context) error {
	id := c.dialer.machine.Load()
	if id == nil {
		return fmt.Errorf("directory %q: %w", c.cfg.Name, ErrNotJoined)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var err error
	for _, i := range id.initiators {
		if _, err = i.Prove(ctx, id.own); err == nil {
			return nil
		}
	}
	return fmt.Errorf("directory %q: %w", c.cfg.Name, err)
}

// logonAttributes are what readLogon asks for.
var logonAttributes = []string{
	"sAMAccountName", "objectSid", "userAccountControl", "msDS-User-Account-Control-Computed", "accountExpires", "pwdLastSet",
}

// readLogon reads what the domain has of e, nil if there is no such entry.
func (c *Client) readLogon(ctx context.Context, e *directory.Entry) (*logon, error) {
	nc, err := c.read.get(ctx)
	if err != nil {
		return nil, err
	}
	var res *ldap.SearchResult
	err = nc.do(ctx, func() (err error) {
		res, err = nc.Search(ldap.NewSearchRequest(e.DN, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=user)", logonAttributes, nil))
		return err
	})
	c.read.put(nc, err)
	if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) || err == nil && len(res.Entries) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", e.DN, err)
	}
	return newLogon(res.Entries[0], time.Now())
}

// Bits of userAccountControl and its computed sibling, [MS-ADTS] §2.2.16.
const (
	uacDisabled        = 0x2
	uacLocked          = 0x10
	uacPasswordExpired = 0x800000
)

func newLogon(e *ldap.Entry, now time.Time) (*logon, error) {
	l := &logon{name: e.GetAttributeValue("sAMAccountName"), sid: SID(e.GetRawAttributeValue("objectSid"))}
	if l.name == "" || strings.ContainsAny(l.name, "/@") || l.sid == "" {
		return nil, fmt.Errorf("%s has no name to log in to Kerberos with, or it may not be read", e.DN)
	}
	control, _ := strconv.ParseInt(e.GetAttributeValue("userAccountControl"), 10, 64)
	computed, _ := strconv.ParseInt(e.GetAttributeValue("msDS-User-Account-Control-Computed"), 10, 64)
	end, err := strconv.ParseInt(e.GetAttributeValue("accountExpires"), 10, 64)
	switch {
	case control&uacDisabled != 0:
		l.reason = directory.ReasonDisabled
	case computed&uacLocked != 0:
		l.reason = directory.ReasonLocked
	case err == nil && end > 0 && end < 1<<62 && fileTime(end).Before(now):
		l.reason = directory.ReasonExpired
	}
	l.reset = e.GetAttributeValue("pwdLastSet") == "0"
	return l, nil
}

// fileTime is a time of Windows: tenths of a microsecond since 1601.
func fileTime(v int64) time.Time {
	const secondsTo1970 = 11644473600
	return time.Unix(v/1e7-secondsTo1970, v%1e7*100)
}

// The reasons of Windows that come with a refusal, [MS-ERREF] §2.3.1.
const (
	statusHours           = 0xC000006F
	statusWorkstation     = 0xC0000070
	statusPasswordExpired = 0xC0000071
	statusDisabled        = 0xC0000072
	statusAccountExpired  = 0xC0000193
	statusMustChange      = 0xC0000224
	statusLocked          = 0xC0000234
)

// judgeKDC turns the KDC's no into a judgement of the password of a person, or
// into an error where it is none. The reasons are those of a bind. That the
// password was right is known where the KDC has looked at it first: Samba does,
// Windows says disabled and expired before.
func (c *Client) judgeKDC(ctx context.Context, r *gssapi.RefusedError, person *logon, who gssapi.Account) error {
	refusal := &directory.Refusal{Diagnostic: r.Text}
	if r.Status != 0 {
		refusal.Diagnostic += fmt.Sprintf(", status %08x", r.Status)
	}
	switch r.Code {
	case gssapi.CodeUnknownClient:
		refusal.Reason = directory.ReasonPassword
	case gssapi.CodePassword:
		refusal.Reason = directory.ReasonPassword
		if person.reason == directory.ReasonLocked {
			refusal.Reason = directory.ReasonLocked // this one has locked it
		}
	case gssapi.CodeKeyExpired:
		refusal.Reason = directory.ReasonPasswordExpired
		if r.Status == statusMustChange || person.reset {
			refusal.Reason = directory.ReasonMustChange
		}
		right, err := gssapi.MayChange(ctx, who)
		if err != nil {
			return err
		}
		if refusal.Right = right; !right {
			refusal.Reason = directory.ReasonPassword
		}
	case gssapi.CodeRevoked, gssapi.CodePolicy:
		refusal.Reason = revoked(r.Status, person)
		refusal.Right = r.Tried && refusal.Reason != directory.ReasonLocked
	}
	if refusal.Reason == 0 {
		return fmt.Errorf("judge a password by Kerberos: %w", r)
	}
	return refusal
}

// revoked is why an account may not be used: what the KDC says, else what the
// entry says. 0: nobody says it.
func revoked(status uint32, person *logon) directory.Reason {
	switch status {
	case statusHours:
		return directory.ReasonHours
	case statusWorkstation:
		return directory.ReasonWorkstation
	case statusDisabled:
		return directory.ReasonDisabled
	case statusAccountExpired:
		return directory.ReasonExpired
	case statusLocked:
		return directory.ReasonLocked
	case statusPasswordExpired:
		return directory.ReasonPasswordExpired
	case statusMustChange:
		return directory.ReasonMustChange
	}
	return person.reason
}

// SID returns the text of a security identifier ([MS-DTYP] §2.4.2), "" if b is
// none.
func SID(b []byte) string {
	if len(b) < 8 || b[0] != 1 || len(b) != 8+4*int(b[1]) {
		return ""
	}
	text := fmt.Sprintf("S-1-%d", uint64(binary.BigEndian.Uint16(b[2:]))<<32|uint64(binary.BigEndian.Uint32(b[4:])))
	for b = b[8:]; len(b) > 0; b = b[4:] {
		text += fmt.Sprintf("-%d", binary.LittleEndian.Uint32(b))
	}
	return text
}
