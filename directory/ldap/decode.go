package ldap

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// decoder turns one value of an attribute into the canonical text of its
// field. "" without error means that the value says nothing.
type decoder func(value string) (string, error)

// errNotText reports a value that is no text.
var errNotText = errors.New("not valid UTF-8, or holds control characters")

// decoders are the names that may stand behind the colon in a mapping.
func (m *mapper) decoders() map[string]decoder {
	return map[string]decoder{
		"":                    text,
		"uuid":                uuidText,
		"guid":                guid,
		"sid":                 sid,
		"rid":                 relativeID,
		"smtp":                func(v string) (string, error) { return proxyAddress(v, false) },
		"smtp-primary":        func(v string) (string, error) { return proxyAddress(v, true) },
		"x500":                x500Address,
		"address-only":        addressOnly,
		"octets":              func(v string) (string, error) { return scaled(v, 1) },
		"kib":                 func(v string) (string, error) { return scaled(v, 1<<10) },
		"mib":                 func(v string) (string, error) { return scaled(v, 1<<20) },
		byOID:                 func(v string) (string, error) { return "", errors.New("the server was not asked for the unit") },
		"time":                generalizedTime,
		"csn":                 changeNumber,
		"filetime":            filetime,
		"days":                days,
		"bool":                boolean,
		"not":                 negation,
		"uac":                 userAccountControl,
		"samba-flags":         sambaFlags,
		"must-change":         words("0", "must-change"),
		"locked":              words("true", "disabled"),
		"locked-time":         lockedTime,
		"lockout":             lockout,
		"account-status":      words("noaccess", "disabled", "disabled", "disabled", "inactive", "disabled", "deleted", "disabled", "removed", "disabled"),
		"account-deleted":     words("deleted", "disabled", "removed", "disabled"),
		"user-delivery":       words("hold", "held", "disabled", "disabled", "deleted", "disabled", "removed", "disabled"),
		"enabled-login":       words("nologin", "disabled", "off", "disabled"),
		"enabled-delivery":    words("noreceive", "disabled", "off", "disabled", "hold", "held"),
		"enabled-flag":        words("false", "disabled", "no", "disabled", "0", "disabled"),
		"deliver-off":         words("deliver", "disabled", "mail", "disabled"),
		"delivery-mode":       words("forwardonly", "false", "nombox", "false", "nolocal", "false", "normal", "true", "mailbox", "true", "localdelivery", "true"),
		"qmail-copy":          words("qmailuser", "true"),
		"no-forward":          words("noforward", "off"),
		"forward-off":         words("forward", "off"),
		"delivery-option":     words("forward", "on", "mailbox", "off"),
		"service":             serviceWord,
		"protocol-settings":   protocolSettings,
		"exchange-kind":       words("4", "shared", "16", "room", "32", "equipment", "64", "contact", "17179869184", "equipment", "34359738368", "shared", "8589934592", "room"),
		"policy":              policy,
		"require-auth":        words("true", "internal", "false", "open"),
		"moderated":           words("true", "moderated"),
		"members-only":        words("true", "members"),
		"any-moderated":       always("moderated"),
		"always-open":         always("open"),
		"elsewhere":           always("elsewhere"),
		"filter":              queryFilter,
		"kolab-acl":           kolabACL,
		"certificate-mapping": certificateMapping,
		"certificate":         certificateWhole,
		"unique-member":       uniqueMember,
		"netbios":             m.netbiosName,
		"implicit-upn":        m.implicitUPN,
	}
}

// always takes any value for the same word.
func always(word string) decoder { return func(string) (string, error) { return word, nil } }

// text takes a value as it is.
func text(v string) (string, error) {
	v = strings.TrimSpace(v)
	if !utf8.ValidString(v) || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errNotText
	}
	return v, nil
}

// words maps words in any case to others, given in pairs; any other word says
// nothing.
func words(pairs ...string) decoder {
	return func(v string) (string, error) {
		for i := 0; i < len(pairs); i += 2 {
			if strings.EqualFold(strings.TrimSpace(v), pairs[i]) {
				return pairs[i+1], nil
			}
		}
		return "", nil
	}
}

// proxyAddress takes the SMTP addresses of proxyAddresses: "SMTP:" before the
// primary one, "smtp:" before the others; X500, SIP and the rest say nothing.
func proxyAddress(v string, primary bool) (string, error) {
	prefix, address, ok := strings.Cut(v, ":")
	if !ok {
		return text(v)
	}
	if !strings.EqualFold(prefix, "smtp") || primary && prefix != "SMTP" {
		return "", nil
	}
	return text(address)
}

// scaled takes a number of units, and gives octets.
func scaled(v string, unit int64) (string, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return "", fmt.Errorf("not a size: %.40q", v)
	}
	return strconv.FormatInt(n*unit, 10), nil
}

const timeForm = time.RFC3339Nano

// generalizedTime takes 20261121103000Z, 20261121103000.0Z (RFC 4517 §3.3.13).
func generalizedTime(v string) (string, error) {
	for _, form := range []string{"20060102150405Z0700", "20060102150405.999999999Z0700", "200601021504Z0700"} {
		if t, err := time.Parse(form, strings.TrimSpace(v)); err == nil {
			return t.UTC().Format(timeForm), nil
		}
	}
	return "", fmt.Errorf("not a time: %.40q", v)
}

// changeNumber takes the time of a change sequence number of OpenLDAP,
// 20261121103000.123456Z#000001#000#000000. The counter of changes within one
// microsecond stands in the nanoseconds, so that no two changes look the same.
func changeNumber(v string) (string, error) {
	stamp, rest, _ := strings.Cut(v, "#")
	count, _, _ := strings.Cut(rest, "#")
	t, err := time.Parse("20060102150405.999999999Z0700", stamp)
	n, nerr := strconv.ParseUint(count, 16, 32)
	if err != nil || nerr != nil {
		return "", fmt.Errorf("not a change sequence number: %.60q", v)
	}
	return t.UTC().Add(time.Duration(n % 1000)).Format(timeForm), nil
}

// filetime takes the 100 ns since 1601 that Active Directory counts. 0 and the
// largest number mean never.
func filetime(v string) (string, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	if err != nil || n < 0 {
		return "", fmt.Errorf("not a time: %.40q", v)
	}
	if n == 0 || n == 1<<63-1 {
		return "", nil
	}
	const since1601 = 11644473600 // seconds from 1601 to 1970
	t := time.Unix(n/1e7-since1601, n%1e7*100).UTC()
	if t.Year() > 2261 {
		return "", nil
	}
	if t.Year() < 1678 { // long past, and out of reach of 64 bits of nanoseconds
		t = time.Unix(1, 0).UTC()
	}
	return t.Format(timeForm), nil
}

// days takes the days since 1970 of shadowExpire; the account ends with that
// day's beginning. -1 means never.
func days(v string) (string, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 32)
	if err != nil {
		return "", fmt.Errorf("not a number of days: %.40q", v)
	}
	if n < 0 || n > 100_000 {
		return "", nil
	}
	return time.Unix(max(1, n*24*60*60), 0).UTC().Format(timeForm), nil
}

func boolean(v string) (string, error) {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "true", "yes", "1", "on":
		return "true", nil
	case "false", "no", "0", "off":
		return "false", nil
	}
	return "", fmt.Errorf("not a boolean: %.40q", v)
}

func negation(v string) (string, error) {
	b, err := boolean(v)
	if err != nil {
		return "", err
	}
	if b == "true" {
		return "false", nil
	}
	return "true", nil
}

// userAccountControl says whether an account of Active Directory is disabled.
func userAccountControl(v string) (string, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	if err != nil {
		return "", fmt.Errorf("not a number: %.40q", v)
	}
	if n&0x2 != 0 { // ACCOUNTDISABLE
		return "disabled", nil
	}
	return "", nil
}

// lockedTime takes pwdAccountLockedTime of ppolicy: "000001010000Z" was set by
// the administrator and stands for ever, any other time passes by itself.
func lockedTime(v string) (string, error) {
	if strings.HasPrefix(v, "0000") {
		return "disabled", nil
	}
	return "locked", nil
}

// lockout takes lockoutTime of Active Directory, 0 for nobody. It stands until the
// next login, however long the lockout is over: only the domain can tell.
func lockout(v string) (string, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return "", fmt.Errorf("not a time: %.40q", v)
	}
	if n <= 0 {
		return "", nil
	}
	return "locked", nil
}

// uniqueMember takes the DN of a name with optional UID, DN#'0101'B
// (RFC 4517 §3.3.21).
func uniqueMember(v string) (string, error) {
	if i := strings.LastIndex(v, "#'"); i > 0 && strings.HasSuffix(v, "'B") {
		v = v[:i]
	}
	return text(v)
}

func (m *mapper) netbiosName(v string) (string, error) {
	if m.netbios == "" {
		return "", nil
	}
	return text(m.netbios + `\` + v)
}

func (m *mapper) implicitUPN(v string) (string, error) {
	if m.dnsDomain == "" {
		return "", nil
	}
	return text(v + "@" + m.dnsDomain)
}

// nextHop checks host, host:port or [IPv6]:port.
func nextHop(v string) (string, error) {
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		host, port = strings.Trim(v, "[]"), "25"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, " /@<>\"'|") {
		return "", fmt.Errorf("not a host or host:port: %.40q", v)
	}
	return v, nil
}
