package ldap

import (
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	ad := func(data string) error {
		return ldap.NewError(ldap.LDAPResultInvalidCredentials, errors.New("80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data "+data+", v1db1"))
	}
	code := func(n uint16) error { return ldap.NewError(n, errors.New("x")) }
	policy := func(n int8) *ldap.SimpleBindResult {
		c := ldap.NewControlBeheraPasswordPolicy()
		c.Error = n
		return &ldap.SimpleBindResult{Controls: []ldap.Control{c}}
	}
	vchu := &ldap.SimpleBindResult{Controls: []ldap.Control{&ldap.ControlVChuPasswordMustChange{MustChange: true}}}
	tests := []struct {
		name   string
		res    *ldap.SimpleBindResult
		err    error
		reason directory.Reason // 0: right, or not judged
		right  bool
		judged bool
	}{
		{"right", nil, nil, 0, false, true},
		{"right, ppolicy has nothing to say", policy(-1), nil, 0, false, true},
		{"right, must change", policy(ldap.BeheraChangeAfterReset), nil, directory.ReasonMustChange, true, true},
		{"wrong", nil, code(ldap.LDAPResultInvalidCredentials), directory.ReasonPassword, false, true},
		{"ppolicy expired", policy(ldap.BeheraPasswordExpired), code(ldap.LDAPResultInvalidCredentials), directory.ReasonPasswordExpired, true, true},
		{"ppolicy locked", policy(ldap.BeheraAccountLocked), code(ldap.LDAPResultInvalidCredentials), directory.ReasonLocked, false, true},
		{"AD wrong", nil, ad("52e"), directory.ReasonPassword, false, true},
		{"AD nobody", nil, ad("525"), directory.ReasonPassword, false, true},
		{"AD hours", nil, ad("530"), directory.ReasonHours, true, true},
		{"AD workstation", nil, ad("531"), directory.ReasonWorkstation, true, true},
		{"AD password expired", nil, ad("532"), directory.ReasonPasswordExpired, true, true},
		{"AD disabled", nil, ad("533"), directory.ReasonDisabled, true, true},
		{"AD expired", nil, ad("701"), directory.ReasonExpired, true, true},
		{"AD must change", nil, ad("773"), directory.ReasonMustChange, true, true},
		{"AD locked says nothing about the password", nil, ad("775"), directory.ReasonLocked, false, true},
		{"AD has no controller", nil, ad("51f"), 0, false, false},
		{"AD has a mistake", nil, ad("54f"), 0, false, false},
		{"AD has too many groups", nil, ad("568"), 0, false, false},
		{"389ds must change", vchu, nil, directory.ReasonMustChange, true, true},
		{"389ds expired", vchu, code(ldap.LDAPResultInvalidCredentials), directory.ReasonPasswordExpired, true, true},
		{"AD nonsense", nil, ad("zz"), directory.ReasonPassword, false, true},
		{"no such object", nil, code(ldap.LDAPResultNoSuchObject), directory.ReasonPassword, false, true},
		{"389ds locked", nil, code(ldap.LDAPResultConstraintViolation), directory.ReasonLocked, false, true},
		{"389ds inactivated", nil, code(ldap.LDAPResultUnwillingToPerform), directory.ReasonDisabled, false, true},
		{"busy", nil, code(ldap.LDAPResultBusy), 0, false, false},
		{"AD wants TLS", nil, code(ldap.LDAPResultStrongAuthRequired), 0, false, false},
		{"referral", nil, code(ldap.LDAPResultReferral), 0, false, false},
		{"network", nil, code(ldap.ErrorNetwork), 0, false, false},
		{"no answer of a server", nil, errors.New("x"), 0, false, false},
	}
	for _, tt := range tests {
		err := judge(tt.res, tt.err)
		var r *directory.Refusal
		refused := errors.As(err, &r)
		switch {
		case tt.reason != 0 && (!refused || r.Reason != tt.reason || r.Right != tt.right):
			t.Errorf("%s: %v, want %v (right %v)", tt.name, err, tt.reason, tt.right)
		case tt.reason == 0 && (refused || tt.judged != (err == nil)):
			t.Errorf("%s: %v, want judged %v", tt.name, err, tt.judged)
		}
	}
}

func TestNotice(t *testing.T) {
	t.Parallel()
	policy := func(expire, grace int64) *ldap.SimpleBindResult {
		c := ldap.NewControlBeheraPasswordPolicy()
		c.Expire, c.Grace = expire, grace
		return &ldap.SimpleBindResult{Controls: []ldap.Control{c}}
	}
	for _, tt := range []struct {
		res  *ldap.SimpleBindResult
		want *directory.Notice
	}{
		{nil, nil},
		{&ldap.SimpleBindResult{}, nil},
		{policy(-1, -1), nil},
		{policy(3600, -1), &directory.Notice{ExpiresIn: time.Hour, Grace: -1}},
		{policy(-1, 2), &directory.Notice{Grace: 2}},
		{policy(-1, 0), &directory.Notice{Grace: 0}},
		{policy(math.MaxInt64, math.MaxInt64), &directory.Notice{ExpiresIn: maxExpiry * time.Second, Grace: maxExpiry}},
		{policy(math.MinInt64, math.MinInt64), nil},
		{&ldap.SimpleBindResult{Controls: []ldap.Control{&ldap.ControlVChuPasswordWarning{Expire: 60}}}, &directory.Notice{ExpiresIn: time.Minute, Grace: -1}},
		{&ldap.SimpleBindResult{Controls: []ldap.Control{&ldap.ControlVChuPasswordWarning{Expire: -1}}}, nil},
	} {
		if got := noticeOf(tt.res); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v, want %v", got, tt.want)
		}
	}
}

// TestIsElsewhere: a server that cannot judge says nothing about who asks, and the next
// one is asked.
func TestIsElsewhere(t *testing.T) {
	t.Parallel()
	refused := func(data string) error {
		return ldap.NewError(ldap.LDAPResultInvalidCredentials, errors.New("80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data "+data+", v1db1"))
	}
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, false}, {refused("52e"), false}, {refused("775"), false}, {refused("51f"), true},
		{ldap.NewError(ldap.LDAPResultInvalidCredentials, errors.New("")), false}, {ldap.NewError(ldap.LDAPResultBusy, errors.New("")), true},
	} {
		if got := isElsewhere(tt.err); got != tt.want || tt.err != nil && isJudged(tt.err, byTLS) == tt.want {
			t.Errorf("%v: %t, judged %t", tt.err, got, isJudged(tt.err, byTLS))
		}
	}
}
