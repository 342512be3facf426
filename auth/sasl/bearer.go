package sasl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The mechanisms that take a token or a certificate.
const (
	OAuthBearer = "OAUTHBEARER"
	XOAuth2     = "XOAUTH2"
	External    = "EXTERNAL"
)

// BearerToken is what a client says by OAUTHBEARER or XOAUTH2.
type BearerToken struct {
	Authzid string // "" when the client does not say whose mail it wants
	Token   string
}

// ParseOAuthBearer reads the response of OAUTHBEARER (RFC 7628 §3.1):
//
//	n,a=user@example.com,^Ahost=…^Aport=…^Aauth=Bearer TOKEN^A^A
//
// where ^A is octet 1. A client that asks for channel binding gets ErrMalformed,
// since the mechanism has none. The host and the port that the client says are not
// looked at.
func ParseOAuthBearer(response []byte) (BearerToken, error) {
	var t BearerToken
	header, rest, ok := bytes.Cut(response, []byte{1})
	if !ok || !utf8.Valid(response) || bytes.IndexByte(response, 0) >= 0 {
		return t, fmt.Errorf("%w: want a GS2 header and octet 1", ErrMalformed)
	}
	// RFC 5801 §4: n,authzid, or y,authzid,
	flag, authzid, ok := strings.Cut(string(header), ",")
	authzid, end, ok2 := strings.Cut(authzid, ",")
	if !ok || !ok2 || end != "" || flag != "n" && flag != "y" {
		return t, fmt.Errorf("%w: GS2 header", ErrMalformed)
	}
	if authzid != "" {
		name, ok := strings.CutPrefix(authzid, "a=")
		if !ok || name == "" {
			return t, fmt.Errorf("%w: GS2 header", ErrMalformed)
		}
		if t.Authzid, ok = unescapeName(name); !ok {
			return t, fmt.Errorf("%w: authorization identity", ErrMalformed)
		}
	}
	var err error
	t.Token, err = authPair(rest)
	return t, err
}

// ParseXOAuth2 reads the response of XOAUTH2, which Google and Microsoft describe:
//
//	user=user@example.com^Aauth=Bearer TOKEN^A^A
func ParseXOAuth2(response []byte) (BearerToken, error) {
	var t BearerToken
	user, rest, ok := bytes.Cut(response, []byte{1})
	name, isUser := bytes.CutPrefix(user, []byte("user="))
	if !ok || !isUser || !utf8.Valid(response) || bytes.IndexByte(response, 0) >= 0 {
		return t, fmt.Errorf("%w: want user= and octet 1", ErrMalformed)
	}
	t.Authzid = string(name)
	var err error
	t.Token, err = authPair(rest)
	return t, err
}

// authPair finds the token among pairs that end with octet 1 each, and the list
// with one more; "" where auth= is empty. Pairs that are not known are passed over (RFC 7628 §3.1).
func authPair(b []byte) (token string, err error) {
	list, ok := strings.CutSuffix(string(b), "\x01\x01")
	if !ok {
		return "", fmt.Errorf("%w: want two octets 1 at the end", ErrMalformed)
	}
	found := false
	for pair := range strings.SplitSeq(list, "\x01") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return "", fmt.Errorf("%w: a pair without a key", ErrMalformed)
		}
		if !strings.EqualFold(key, "auth") {
			continue
		}
		// Without a token a client asks where to get one (RFC 7628 §3.2.2).
		scheme, rest, _ := strings.Cut(value, " ")
		if found || scheme != "" && !strings.EqualFold(scheme, "Bearer") {
			return "", fmt.Errorf("%w: want auth=Bearer and a token, once", ErrMalformed)
		}
		token, found = strings.Trim(rest, " "), true
	}
	if !found {
		return "", fmt.Errorf("%w: no token", ErrMalformed)
	}
	return token, nil
}

// unescapeName reads a saslname (RFC 5801 §4): "=2C" is a comma, "=3D" the sign
// itself.
func unescapeName(s string) (string, bool) {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "=")
		b.WriteString(before)
		if !ok {
			return b.String(), true
		}
		switch {
		case strings.HasPrefix(after, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(after, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = after[2:]
	}
}

// OAuthBearerFailure is the challenge of OAUTHBEARER after a token that does not
// count (RFC 7628 §3.2.2). status is an error code of RFC 6750 §3.1; metadata is
// where a client may learn how to get a token, "" for nowhere.
func OAuthBearerFailure(status, scope, metadata string) []byte {
	return encode(struct {
		Status   string `json:"status"`
		Scope    string `json:"scope,omitempty"`
		Metadata string `json:"openid-configuration,omitempty"`
	}{status, scope, metadata})
}

// XOAuth2Failure is that of XOAUTH2: clients look for the status 401 to fetch
// another token, and 400 to give up.
func XOAuth2Failure(status, scope string) []byte {
	return encode(struct {
		Status  string `json:"status"`
		Schemes string `json:"schemes"`
		Scope   string `json:"scope,omitempty"`
	}{status, "Bearer", scope})
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("strings do not encode")
	}
	return b
}

// ParseExternal reads the response of EXTERNAL (RFC 4422 §A.1): the authorization
// identity, "" for that of the certificate.
func ParseExternal(response []byte) (authzid string, err error) {
	if !utf8.Valid(response) || bytes.IndexByte(response, 0) >= 0 {
		return "", fmt.Errorf("%w: want UTF-8 without NUL", ErrMalformed)
	}
	return string(response), nil
}
