package ldap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/gssapi"
)

// maxPassword bounds a password, in octets. Active Directory takes 256 characters,
// slapd what fits into a packet.
const maxPassword = 1024

// oidPasswordModify is the extended operation of RFC 3062.
const oidPasswordModify = "1.3.6.1.4.1.4203.1.11.1"

// ChangePassword changes the password of e from old to new, as the person and with
// no more rights than the person has: by RFC 3062, in Active Directory by replacing
// the value of unicodePwd ([MS-ADTS] §3.1.1.3.1.5). A password that has expired is
// changed too, where the server has a way: Active Directory takes the change from
// any account, since the old password is part of it; others let the person bind for
// the change, or not at all.
//
// nil means changed. A *directory.ChangeRefusal says why the server has not changed
// it, a *directory.Refusal that the old password does not let the person in; any
// other error means that nothing is known to have changed.
//
// A wrong old password is counted by the domain as at a login: it must have been
// judged before.
func (c *Client) ChangePassword(ctx context.Context, e *directory.Entry, old, new string) error {
	switch {
	case old == "" || e.DN == "":
		return &directory.Refusal{Reason: directory.ReasonPassword, Diagnostic: "empty password"}
	case new == "":
		return &directory.ChangeRefusal{Reason: directory.ChangeTooShort}
	case len(new) > maxPassword || !utf8.ValidString(new) || strings.ContainsFunc(new, isControl):
		return &directory.ChangeRefusal{Reason: directory.ChangeTooSimple, Diagnostic: "too long, or with control characters"}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.cfg.Timeout)
	defer cancel()
	nc, err := c.bindToChange(ctx, e, old)
	switch {
	case err != nil:
		return err
	case nc == nil && !c.isAD():
		return &directory.ChangeRefusal{Reason: directory.ChangeNoWay, Diagnostic: "passwords are judged by Kerberos"}
	case nc == nil:
		return c.changeFromOutside(ctx, e, old, new)
	}
	err = nc.do(ctx, func() error { return c.change(nc, e, old, new) })
	c.bind.put(nc, err)
	return c.explainChange(ctx, e, err)
}

// isControl reports whether r has no place in a password.
func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// bindToChange gets a connection on which the person may change the password. nil
// without an error means that it must be done from another account.
func (c *Client) bindToChange(ctx context.Context, e *directory.Entry, old string) (*conn, error) {
	if c.judgesByKerberos() {
		return nil, nil
	}
	for {
		nc, err := c.bind.get(ctx)
		if c.isWithoutTLS(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		kept := nc.used.Load()
		res, err := c.bindAs(ctx, nc, e.DN, old)
		if err == nil { // also where nothing but the change is allowed
			return nc, nil
		}
		c.bind.put(nc, err)
		if kept && broken(err) && ctx.Err() == nil { // closed while idle: nothing was judged
			continue
		}
		return c.mayChange(judge(res, err))
	}
}

// mayChange says what becomes of a change after the bind was judged: nil where it
// can be done from another account.
func (c *Client) mayChange(err error) (*conn, error) {
	var refusal *directory.Refusal
	if !errors.As(err, &refusal) || !refusal.Right || refusal.Reason != directory.ReasonPasswordExpired && refusal.Reason != directory.ReasonMustChange {
		return nil, err
	}
	if !c.isAD() {
		return nil, &directory.ChangeRefusal{Reason: directory.ChangeNoWay, Diagnostic: refusal.Error()}
	}
	return nil, nil
}

// changeFromOutside changes a password of Active Directory for somebody who cannot
// bind: on the connection of the account that reads, since whoever knows the old
// password may change it (the right "Change Password" is everybody's), and where that
// does not go, by the protocol of Kerberos.
func (c *Client) changeFromOutside(ctx context.Context, e *directory.Entry, old, new string) error {
	nc, err := c.read.get(ctx)
	if err == nil {
		err = nc.do(ctx, func() error { return nc.Modify(unicodePwdChange(e.DN, old, new)) })
		c.read.put(nc, err)
		if !mayNot(err) {
			return c.explainChange(ctx, e, err)
		}
	}
	name := logonName(e)
	if name == "" {
		return c.explainChange(ctx, e, err)
	}
	c.cfg.Log.Debug("password not changed by LDAP, trying Kerberos", "directory", c.cfg.Name, "err", err)
	return c.changeByKerberos(ctx, e, name, old, new)
}

// mayNot reports whether a server refuses a change because of who asks: an account
// without the right, or nobody at all.
func mayNot(err error) bool {
	return ldap.IsErrorAnyOf(err, ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultOperationsError, ldap.LDAPResultStrongAuthRequired)
}

// logonName is the name of e in Kerberos, as the snapshot has it: that of DOMAIN\name.
func logonName(e *directory.Entry) string {
	for _, l := range e.Logins {
		if _, name, ok := strings.Cut(l, `\`); ok && name != "" && !strings.ContainsAny(name, `/@\`) {
			return name
		}
	}
	return ""
}

// changeByKerberos changes a password by RFC 3244.
func (c *Client) changeByKerberos(ctx context.Context, e *directory.Entry, name, old, new string) error {
	err := gssapi.ChangePassword(ctx, gssapi.Account{Principal: name, Realm: DNSDomain(e.DN), Password: old, KDCs: c.dialer.servers.kdcs()}, new)
	var (
		refused *gssapi.RefusedError
		no      *gssapi.ChangeError
	)
	switch {
	case errors.As(err, &refused) && refused.Code == gssapi.CodePassword:
		return &directory.ChangeRefusal{Reason: directory.ChangeOldWrong, Diagnostic: refused.Text}
	case errors.As(err, &no):
		r := &directory.ChangeRefusal{Reason: constraintReason(no.Text, ldap.LDAPResultConstraintViolation), Diagnostic: no.Text}
		if rules := no.Rules; rules != nil {
			r.Rules = directory.PasswordRules{MinLength: rules.MinLength, History: rules.History, MinAge: rules.MinAge, Complex: rules.Complex}
			if utf8.RuneCountInString(new) < rules.MinLength {
				r.Reason = directory.ChangeTooShort
			}
		}
		switch no.Result {
		case gssapi.ChangeSoft:
			return r
		case gssapi.ChangeDenied:
			r.Reason = directory.ChangeForbidden
			return r
		}
	}
	if err != nil {
		return fmt.Errorf("change the password of %s by Kerberos: %w", e.Key, err)
	}
	return nil
}

// change sends the change on a connection of the person.
func (c *Client) change(nc *conn, e *directory.Entry, old, new string) error {
	if c.isAD() {
		return nc.Modify(unicodePwdChange(e.DN, old, new))
	}
	value := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
	for tag, v := range []string{e.DN, old, new} { // RFC 3062 §2
		value.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, ber.Tag(tag), v, ""))
	}
	req := ldap.NewExtendedRequest(oidPasswordModify, value)
	req.Controls = []ldap.Control{ldap.NewControlBeheraPasswordPolicy()}
	_, err := nc.Extended(req)
	return err
}

// unicodePwdChange takes one value away and adds another: what a person may do, who
// knows the first one. Replacing it would be a reset, which needs other rights.
func unicodePwdChange(dn, old, new string) *ldap.ModifyRequest {
	req := ldap.NewModifyRequest(dn, nil)
	req.Delete("unicodePwd", []string{UnicodePwd(old)})
	req.Add("unicodePwd", []string{UnicodePwd(new)})
	return req
}

// UnicodePwd is a password as Active Directory wants it, in quotation marks and
// UTF-16 ([MS-ADTS] §3.1.1.3.1.5).
func UnicodePwd(password string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(`"` + password + `"`)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

// explainChange turns the answer to a change into nil, a refusal, or an error.
func (c *Client) explainChange(ctx context.Context, e *directory.Entry, err error) error {
	if err == nil {
		return nil
	}
	reason, diagnostic := judgeChange(err)
	if reason == 0 {
		return fmt.Errorf("change the password of %s: %w", e.Key, err)
	}
	r := &directory.ChangeRefusal{Reason: reason, Diagnostic: diagnostic}
	if c.isAD() && reason < directory.ChangeForbidden {
		r.Rules = c.passwordRules(ctx, e)
	}
	return r
}

// judgeChange reads why a server refuses a new password, 0 if it does not say that
// it refuses it.
func judgeChange(err error) (directory.ChangeReason, string) {
	var le *ldap.Error
	if !errors.As(err, &le) || le.ResultCode >= ldap.ErrorNetwork {
		return 0, ""
	}
	diagnostic := ""
	if le.Err != nil {
		diagnostic = le.Err.Error()
		diagnostic = strings.ToValidUTF8(diagnostic[:min(len(diagnostic), 300)], "?")
	}
	if r := policyReason(le.Packet); r != 0 {
		return r, diagnostic
	}
	switch le.ResultCode {
	case ldap.LDAPResultConstraintViolation, ldap.LDAPResultUnwillingToPerform:
		return constraintReason(diagnostic, le.ResultCode), diagnostic
	case ldap.LDAPResultInsufficientAccessRights:
		return directory.ChangeForbidden, diagnostic
	case ldap.LDAPResultInvalidCredentials:
		return directory.ChangeOldWrong, diagnostic
	}
	return 0, ""
}

// policyReason reads the reason from the password policy control of an answer
// (draft-behera-ldap-password-policy §6.2), 0 if there is none.
func policyReason(packet *ber.Packet) directory.ChangeReason {
	if packet == nil || len(packet.Children) < 3 {
		return 0
	}
	for _, child := range packet.Children[2].Children {
		decoded, err := ldap.DecodeControl(child)
		if err != nil {
			continue
		}
		p, ok := decoded.(*ldap.ControlBeheraPasswordPolicy)
		if !ok {
			continue
		}
		switch p.Error {
		case ldap.BeheraPasswordModNotAllowed:
			return directory.ChangeForbidden
		case ldap.BeheraMustSupplyOldPassword:
			return directory.ChangeOldWrong
		case ldap.BeheraInsufficientPasswordQuality:
			return directory.ChangeTooSimple
		case ldap.BeheraPasswordTooShort:
			return directory.ChangeTooShort
		case ldap.BeheraPasswordTooYoung:
			return directory.ChangeTooSoon
		case ldap.BeheraPasswordInHistory:
			return directory.ChangeUsedBefore
		}
	}
	return 0
}

// constraintReason reads the reason from the words of a server. Windows gives a code
// in front of them ([MS-ERREF] §2.2): 52D, against the rules; 56, the old password
// is wrong. Samba says which rule. slapd and 389ds have words alone.
func constraintReason(diagnostic string, code uint16) directory.ChangeReason {
	text := strings.ToLower(diagnostic)
	has := func(all ...string) bool {
		for _, s := range all {
			if strings.Contains(text, s) {
				return true
			}
		}
		return false
	}
	switch {
	case strings.HasPrefix(diagnostic, "00000056"), has("verify old password", "old password doesn't match", "old password does not match", "no matching old password"):
		return directory.ChangeOldWrong
	case has("too short"):
		return directory.ChangeTooShort
	case has("history"), has("already been used", "was already used", "not being changed from existing value"):
		return directory.ChangeUsedBefore
	case has("too young", "within password minimum age", "too recently", "changed recently"):
		return directory.ChangeTooSoon
	case has("complex", "quality", "strength", "trivial", "palindrome", "dictionary"):
		return directory.ChangeTooSimple
	case has("not allowed to change", "may not change"):
		return directory.ChangeForbidden
	case strings.HasPrefix(diagnostic, "0000052D"), code == ldap.LDAPResultConstraintViolation:
		return directory.ChangePolicy
	}
	return 0
}

// passwordRules reads what the domain says of the password of e: a policy of the
// person, else that of the domain. What cannot be read is not said.
func (c *Client) passwordRules(ctx context.Context, e *directory.Entry) directory.PasswordRules {
	rules, err := c.readRules(ctx, e)
	if err != nil {
		c.cfg.Log.Debug("rules for passwords not read", "directory", c.cfg.Name, "err", err)
	}
	return rules
}

func (c *Client) readRules(ctx context.Context, e *directory.Entry) (rules directory.PasswordRules, err error) {
	nc, err := c.read.get(ctx)
	if err != nil {
		return rules, err
	}
	defer func() { c.read.put(nc, err) }()
	read := func(dn string, attributes ...string) (le *ldap.Entry, err error) {
		var res *ldap.SearchResult
		err = nc.do(ctx, func() (err error) {
			res, err = nc.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", attributes, nil))
			return err
		})
		if err != nil || len(res.Entries) == 0 {
			return nil, err
		}
		return res.Entries[0], nil
	}
	person, err := read(e.DN, "msDS-ResultantPSO")
	if err != nil {
		return rules, err
	}
	if person != nil {
		if pso := person.GetAttributeValue("msDS-ResultantPSO"); pso != "" {
			own, err := read(pso, "msDS-MinimumPasswordLength", "msDS-PasswordHistoryLength", "msDS-MinimumPasswordAge", "msDS-PasswordComplexityEnabled")
			if err == nil && own != nil && own.GetAttributeValue("msDS-MinimumPasswordLength") != "" {
				return directory.PasswordRules{
					MinLength: number(own, "msDS-MinimumPasswordLength"), History: number(own, "msDS-PasswordHistoryLength"),
					MinAge: interval(own.GetAttributeValue("msDS-MinimumPasswordAge")), Complex: strings.EqualFold(own.GetAttributeValue("msDS-PasswordComplexityEnabled"), "TRUE"),
				}, nil
			}
			return rules, err // a policy that only administrators may read
		}
	}
	domain, err := read("DC="+strings.ReplaceAll(DNSDomain(e.DN), ".", ",DC="), "minPwdLength", "pwdHistoryLength", "minPwdAge", "pwdProperties")
	if err != nil || domain == nil {
		return rules, err
	}
	return directory.PasswordRules{
		MinLength: number(domain, "minPwdLength"), History: number(domain, "pwdHistoryLength"),
		MinAge: interval(domain.GetAttributeValue("minPwdAge")), Complex: number(domain, "pwdProperties")&1 != 0,
	}, nil
}

// number reads an attribute that is a number, 0 if it is none.
func number(e *ldap.Entry, attribute string) int {
	n, err := strconv.ParseInt(e.GetAttributeValue(attribute), 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
}
