package ldap

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// rulesFor is how long a rule about wrong passwords is taken for unchanged, and
// maxRules how many are kept.
const (
	rulesFor = 5 * time.Minute
	maxRules = 1000
)

// lockoutRule is when wrong passwords lock an account.
type lockoutRule struct {
	known     bool // it could be read
	threshold int  // 0: never
	window    time.Duration
	lasts     time.Duration // the lock, 0: until somebody ends it
}

// lockoutRules are the rules of a directory, by the DN of the object that has them
// or another name.
type lockoutRules struct {
	mu    sync.Mutex // guards rules
	rules map[string]agedRule
}

type agedRule struct {
	lockoutRule
	until time.Time
}

// get returns the rule of dn, by read if it is not known or too old.
func (r *lockoutRules) get(dn string, read func() (lockoutRule, error)) (lockoutRule, error) {
	if rule, ok := r.known(dn); ok {
		return rule, nil
	}
	rule, err := read()
	if err != nil {
		return rule, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rules == nil || len(r.rules) >= maxRules {
		r.rules = map[string]agedRule{}
	}
	r.rules[dn] = agedRule{rule, time.Now().Add(rulesFor)}
	return rule, nil
}

// known returns the rule of dn if it was read not long ago.
func (r *lockoutRules) known(dn string) (lockoutRule, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rule, ok := r.rules[dn]
	return rule.lockoutRule, ok && time.Now().Before(rule.until)
}

// policiesOffered is where it stands whether a server has password policies at all.
const policiesOffered = ""

// Lockout reads when wrong passwords lock the account of e, and how many the
// directory counts now: of Active Directory the fine-grained policy of the person
// or the domain's rule, elsewhere the password policy
// (draft-behera-ldap-password-policy). Rules are remembered for five minutes. An
// error means that no server answered; what may not be read is Hidden.
func (c *Client) Lockout(ctx context.Context, e *directory.Entry) (directory.Lockout, error) {
	if offered, ok := c.lockouts.known(policiesOffered); ok && !offered.known {
		return directory.Lockout{}, nil // nothing to ask for
	}
	nc, err := c.read.get(ctx)
	if err != nil {
		return directory.Lockout{}, err
	}
	r := lockoutReader{c: c, ctx: ctx, nc: nc}
	var l directory.Lockout
	if c.isAD() {
		l, err = r.ad(e.DN)
	} else {
		l, err = r.ppolicy(e.DN)
	}
	c.read.put(nc, err)
	if err != nil {
		return directory.Lockout{}, fmt.Errorf("directory %q: %w", c.cfg.Name, err)
	}
	return l, nil
}

// lockoutReader reads on one connection.
type lockoutReader struct {
	c   *Client
	ctx context.Context // of the one call of Lockout
	nc  *conn
}

// one reads an entry, nil for one that may not be read.
func (r *lockoutReader) one(dn, filter string, attributes ...string) (*ldap.Entry, error) {
	return readOne(r.ctx, r.nc, r.c.cfg.Timeout, dn, filter, attributes...)
}

// adLockout are the attributes of a person that tell how far an AD domain has
// counted, and when the password was set.
var adLockout = []string{"objectClass", "badPwdCount", "badPasswordTime", "msDS-User-Account-Control-Computed", "msDS-ResultantPSO", "pwdLastSet"}

// ad reads the rule and the count of Active Directory. A domain keeps its
// fine-grained policies from ordinary accounts, which see at most that there is one.
// Unless their container can be seen, and what tells of whom one holds, one may.
func (r *lockoutReader) ad(dn string) (directory.Lockout, error) {
	var l directory.Lockout
	e, err := r.one(dn, "(objectClass=*)", adLockout...)
	if err != nil {
		return l, err
	}
	domain := domainOf(dn)
	rule, err := r.c.lockouts.get(domain, func() (lockoutRule, error) {
		return r.adRule(domain, "lockoutThreshold", "lockOutObservationWindow", "lockoutDuration")
	})
	if err != nil {
		return l, err
	}
	l.Hidden = !rule.known
	if e == nil {
		return directory.Lockout{Threshold: rule.threshold, Window: rule.window, Hidden: true}, nil
	}
	if pso := e.GetEqualFoldAttributeValue("msDS-ResultantPSO"); pso != "" {
		own, err := r.c.lockouts.get(pso, func() (lockoutRule, error) {
			return r.adRule(pso, "msDS-LockoutThreshold", "msDS-LockoutObservationWindow", "msDS-LockoutDuration")
		})
		if err != nil {
			return l, err
		}
		if l.Hidden = !own.known; own.known {
			rule = own
		}
	} else {
		container := "CN=Password Settings Container,CN=System," + domain
		seen, err := r.c.lockouts.get(container, func() (lockoutRule, error) {
			c, err := r.one(container, "(objectClass=*)", "1.1")
			return lockoutRule{known: c != nil}, err
		})
		if err != nil {
			return l, err
		}
		// The name of a person's policy is readable to whom the count is, which every
		// person has: in a hardened forest neither.
		blind := e.GetEqualFoldAttributeValue("badPwdCount") == "" && slices.Contains(e.GetEqualFoldAttributeValues("objectClass"), "user")
		l.Hidden = l.Hidden || !seen.known || blind
	}
	l.Threshold, l.Window = rule.threshold, rule.window
	l.PasswordSet = adTime(e.GetEqualFoldAttributeValue("pwdLastSet"))
	readADCount(&l, e, time.Now())
	return l, nil
}

// adRule reads the rule of a domain or of a fine-grained policy.
func (r *lockoutReader) adRule(dn, threshold, window, lasts string) (lockoutRule, error) {
	e, err := r.one(dn, "(objectClass=*)", threshold, window, lasts)
	if err != nil || e == nil {
		return lockoutRule{}, err
	}
	n, err := strconv.ParseInt(e.GetEqualFoldAttributeValue(threshold), 10, 32)
	if err != nil || n < 0 {
		return lockoutRule{}, nil
	}
	return lockoutRule{known: true, threshold: int(n), window: interval(e.GetEqualFoldAttributeValue(window)), lasts: interval(e.GetEqualFoldAttributeValue(lasts))}, nil
}

// interval reads a span of time as Active Directory has it: negative, in tenths of
// a microsecond. What lasts for ever, or cannot be read, is 0.
func interval(v string) time.Duration {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n >= 0 || n < -int64(1<<62)/100 {
		return 0
	}
	return time.Duration(-n) * 100
}

// readADCount reads how far a domain controller has counted for the person of e.
// It leaves the count as it is when the window has passed, until the next wrong
// password.
func readADCount(l *directory.Lockout, e *ldap.Entry, now time.Time) {
	computed, _ := strconv.ParseInt(e.GetEqualFoldAttributeValue("msDS-User-Account-Control-Computed"), 10, 64)
	l.Locked = computed&uacLocked != 0
	n, err := strconv.ParseInt(e.GetEqualFoldAttributeValue("badPwdCount"), 10, 32)
	if err != nil || n <= 0 {
		return
	}
	countWrong(l, int(n), adTime(e.GetEqualFoldAttributeValue("badPasswordTime")), now)
}

// adTime reads a time of Windows, zero for none.
func adTime(v string) time.Time {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n <= 0 || n >= 1<<62 {
		return time.Time{}
	}
	return fileTime(n)
}

// domainOf is the domain of AD that a DN is in.
func domainOf(dn string) string {
	parsed, err := ldap.ParseDN(dn)
	if err != nil {
		return dn
	}
	i := len(parsed.RDNs)
	for i > 0 && len(parsed.RDNs[i-1].Attributes) == 1 && strings.EqualFold(parsed.RDNs[i-1].Attributes[0].Type, "DC") {
		i--
	}
	return (&ldap.DN{RDNs: parsed.RDNs[i:]}).String()
}

// oidPasswordPolicy is the control of servers that have password policies
// (draft-behera-ldap-password-policy).
const oidPasswordPolicy = ldap.ControlTypeBeheraPasswordPolicy

// ppolicyLockout are the attributes of a person that tell how far a server with
// password policies has counted, and when the password was set; passwordRetryCount is of 389.
var ppolicyLockout = []string{"pwdPolicySubentry", "pwdFailureTime", "pwdAccountLockedTime", "passwordRetryCount", "pwdChangedTime"}

// ppolicy reads the rule and the count of a server with password policies. Which
// of them holds where the entry names none is a secret of the server's
// configuration: the strictest that can be read is taken for it.
func (r *lockoutReader) ppolicy(dn string) (directory.Lockout, error) {
	var l directory.Lockout
	offered, err := r.c.lockouts.get(policiesOffered, func() (lockoutRule, error) {
		root, err := r.one("", "(objectClass=*)", "supportedControl")
		if err != nil || root == nil {
			return lockoutRule{}, err
		}
		for _, oid := range root.GetEqualFoldAttributeValues("supportedControl") {
			if oid == oidPasswordPolicy {
				return lockoutRule{known: true}, nil
			}
		}
		return lockoutRule{}, nil
	})
	if err != nil || !offered.known {
		return l, err
	}
	e, err := r.one(dn, "(objectClass=*)", ppolicyLockout...)
	if err != nil {
		return l, err
	}
	if e == nil {
		return directory.Lockout{Hidden: true}, nil
	}
	rule, err := r.policyOf(e.GetEqualFoldAttributeValue("pwdPolicySubentry"))
	if err != nil {
		return l, err
	}
	l = directory.Lockout{Threshold: rule.threshold, Window: rule.window, Hidden: !rule.known}
	if set, err := policyTime(e.GetEqualFoldAttributeValue("pwdChangedTime")); err == nil {
		l.PasswordSet = set
	}
	readPolicyCount(&l, e, rule, time.Now())
	return l, nil
}

// policyOf reads the policy dn, or what holds where none is named.
func (r *lockoutReader) policyOf(dn string) (lockoutRule, error) {
	if dn != "" {
		return r.c.lockouts.get(dn, func() (lockoutRule, error) {
			e, err := r.one(dn, "(objectClass=*)", policyAttributes...)
			if err != nil || e == nil {
				return lockoutRule{}, err
			}
			return policyRule(e), nil
		})
	}
	return r.c.lockouts.get("the strictest", r.strictest)
}

var policyAttributes = []string{"pwdMaxFailure", "pwdLockout", "pwdFailureCountInterval", "pwdLockoutDuration"}

// strictest is the strictest policy below the base.
func (r *lockoutReader) strictest() (lockoutRule, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.c.cfg.Timeout)
	defer cancel()
	var res *ldap.SearchResult
	err := r.nc.do(ctx, func() (err error) {
		res, err = r.nc.Search(ldap.NewSearchRequest(r.c.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, maxRules, 0, false, "(objectClass=pwdPolicy)", policyAttributes, nil))
		return err
	})
	if err != nil && broken(err) {
		return lockoutRule{}, fmt.Errorf("read the password policies: %w", err)
	}
	if err != nil || len(res.Entries) == 0 {
		return lockoutRule{}, nil
	}
	best := lockoutRule{known: true}
	for _, e := range res.Entries {
		rule := policyRule(e)
		switch {
		case rule.threshold == 0: // locks nobody
		case best.threshold == 0:
			best = rule
		default:
			best.threshold = min(best.threshold, rule.threshold)
			best.window = longer(best.window, rule.window)
			best.lasts = longer(best.lasts, rule.lasts)
		}
	}
	return best, nil
}

// longer is the longer of two spans of which 0 is the longest.
func longer(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

// policyRule reads a password policy.
func policyRule(e *ldap.Entry) lockoutRule {
	seconds := func(name string) time.Duration {
		n, err := strconv.ParseUint(e.GetEqualFoldAttributeValue(name), 10, 31)
		if err != nil {
			return 0
		}
		return time.Duration(n) * time.Second
	}
	rule := lockoutRule{known: true, window: seconds("pwdFailureCountInterval"), lasts: seconds("pwdLockoutDuration")}
	if n, err := strconv.ParseUint(e.GetEqualFoldAttributeValue("pwdMaxFailure"), 10, 31); err == nil && strings.EqualFold(e.GetEqualFoldAttributeValue("pwdLockout"), "TRUE") {
		rule.threshold = int(n)
	}
	return rule
}

// readPolicyCount reads how far a server with password policies has counted.
func readPolicyCount(l *directory.Lockout, e *ldap.Entry, rule lockoutRule, now time.Time) {
	var last time.Time
	n := 0
	for _, v := range e.GetEqualFoldAttributeValues("pwdFailureTime") {
		t, err := policyTime(v)
		if err != nil || rule.window > 0 && now.Sub(t) > rule.window {
			continue
		}
		if n++; t.After(last) {
			last = t
		}
	}
	if m, err := strconv.ParseUint(e.GetEqualFoldAttributeValue("passwordRetryCount"), 10, 31); err == nil && int(m) > n {
		n, last = int(m), now
	}
	if n > 0 {
		countWrong(l, n, last, now)
	}
	if v := e.GetEqualFoldAttributeValue("pwdAccountLockedTime"); v != "" {
		t, err := policyTime(v)
		// A time that is none, 000001010000Z, is for ever.
		l.Locked = err != nil || t.Year() < 1000 || rule.lasts == 0 || now.Before(t.Add(rule.lasts))
	}
}

// policyTime reads a time of a password policy.
func policyTime(v string) (time.Time, error) {
	text, err := generalizedTime(v)
	if err != nil {
		return time.Time{}, err
	}
	return time.Parse(timeForm, text)
}

// countWrong fills in what a directory counts, unless its window has passed.
func countWrong(l *directory.Lockout, n int, last, now time.Time) {
	if l.Window == 0 || last.IsZero() || now.Sub(last) <= l.Window {
		l.Wrong = n
	}
}
