package ldap

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// judge turns the answer to a bind into a judgement: nil, a Refusal, or an
// error that means that the password was not judged.
func judge(res *ldap.SimpleBindResult, err error) error {
	policy := policyError(res)
	if err == nil {
		// The server let the person in for nothing but the change.
		switch {
		case policy == ldap.BeheraChangeAfterReset:
			return &directory.Refusal{Reason: directory.ReasonMustChange, Right: true, Diagnostic: "ppolicy changeAfterReset"}
		case saysExpired(res):
			return &directory.Refusal{Reason: directory.ReasonMustChange, Right: true, Diagnostic: "password expired control"}
		}
		return nil
	}
	var le *ldap.Error
	if !errors.As(err, &le) {
		return fmt.Errorf("bind: %w", err)
	}
	diagnostic := ""
	if le.Err != nil {
		diagnostic = le.Err.Error()
	}
	refuse := func(r directory.Reason, right bool) error {
		return &directory.Refusal{Reason: r, Right: right, Diagnostic: diagnostic}
	}
	switch le.ResultCode {
	case ldap.LDAPResultInvalidCredentials:
		switch policy {
		case ldap.BeheraPasswordExpired:
			// slapd compares the password before it looks at its age.
			return refuse(directory.ReasonPasswordExpired, true)
		case ldap.BeheraAccountLocked:
			return refuse(directory.ReasonLocked, false)
		}
		if policy == -1 && saysExpired(res) {
			// 389ds looks at the age behind the password too.
			return refuse(directory.ReasonPasswordExpired, true)
		}
		reason, right := adReason(diagnostic)
		if reason == 0 {
			break
		}
		return refuse(reason, right)
	case ldap.LDAPResultNoSuchObject, ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultInvalidDNSyntax:
		// Gone since the snapshot, or an entry without a password.
		return refuse(directory.ReasonPassword, false)
	case ldap.LDAPResultConstraintViolation:
		// 389ds: "Exceed password retry limit".
		return refuse(directory.ReasonLocked, false)
	case ldap.LDAPResultUnwillingToPerform:
		// 389ds: "Account inactivated", said without looking at the password.
		return refuse(directory.ReasonDisabled, false)
	}
	return fmt.Errorf("bind: %w", err)
}

// policyError returns the error of the password policy control
// (draft-behera-ldap-password-policy), -1 for none.
func policyError(res *ldap.SimpleBindResult) int8 {
	if res == nil {
		return -1
	}
	for _, c := range res.Controls {
		if p, ok := c.(*ldap.ControlBeheraPasswordPolicy); ok {
			return p.Error
		}
	}
	return -1
}

// saysExpired reports whether the server says by the control of Netscape's servers,
// which 389ds has, that the password has expired or must be changed
// (draft-vchu-ldap-pwd-policy).
func saysExpired(res *ldap.SimpleBindResult) bool {
	return res != nil && slices.ContainsFunc(res.Controls, func(c ldap.Control) bool {
		_, ok := c.(*ldap.ControlVChuPasswordMustChange)
		return ok
	})
}

// noticeOf returns what the password policy control says of the time that is left
// (draft-behera-ldap-password-policy, warning), nil for nothing.
func noticeOf(res *ldap.SimpleBindResult) *directory.Notice {
	if res == nil {
		return nil
	}
	for _, c := range res.Controls {
		if w, ok := c.(*ldap.ControlVChuPasswordWarning); ok && w.Expire > 0 {
			return &directory.Notice{ExpiresIn: time.Duration(min(w.Expire, maxExpiry)) * time.Second, Grace: -1}
		}
		p, ok := c.(*ldap.ControlBeheraPasswordPolicy)
		if !ok || p.Expire < 0 && p.Grace < 0 {
			continue
		}
		n := &directory.Notice{Grace: -1}
		if p.Expire >= 0 {
			n.ExpiresIn = time.Duration(min(p.Expire, maxExpiry)) * time.Second
		}
		if p.Grace >= 0 {
			n.Grace = int(min(p.Grace, maxExpiry))
		}
		return n
	}
	return nil
}

// maxExpiry bounds what a server may say, in seconds or logins: no duration
// overflows.
const maxExpiry = 1 << 32

// adReason reads the sub-code of Active Directory from a diagnostic such as
// "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error,
// data 533, v1db1". All but 52e, 525 and 775 are said to a right password
// only; 775 (locked out) to a wrong one too. 0 is trouble of the domain, which has
// judged nothing: no controller that could, a mistake of its own, or more groups of
// the person than a log-on can hold.
func adReason(diagnostic string) (reason directory.Reason, right bool) {
	_, rest, ok := strings.Cut(diagnostic, "data ")
	if !ok {
		return directory.ReasonPassword, false
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r == ',' || r == ' ' })
	if end < 0 {
		end = len(rest)
	}
	code, err := strconv.ParseUint(rest[:end], 16, 32)
	if err != nil {
		return directory.ReasonPassword, false
	}
	switch code {
	case 0x530:
		return directory.ReasonHours, true
	case 0x531:
		return directory.ReasonWorkstation, true
	case 0x532:
		return directory.ReasonPasswordExpired, true
	case 0x533:
		return directory.ReasonDisabled, true
	case 0x701:
		return directory.ReasonExpired, true
	case 0x773:
		return directory.ReasonMustChange, true
	case 0x775:
		return directory.ReasonLocked, false
	case 0x51f, 0x54f, 0x568:
		return 0, false
	}
	return directory.ReasonPassword, false
}
