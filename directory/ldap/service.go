package ldap

import (
	"slices"
	"strings"
)

// services are the protocols that a person may be kept from, as Entry.Services
// has them.
var services = []string{"imap", "pop3", "sieve", "submission"}

// noService stands where nothing is allowed: no service at all would mean every
// one.
const noService = "none"

// services returns the protocols that are allowed, nil for all.
func (r *reading) services() []string {
	allowed, off := r.all("service"), r.all("service_off")
	if len(off) == 0 {
		return allowed
	}
	if len(allowed) == 0 {
		allowed = slices.Clone(services)
	}
	allowed = slices.DeleteFunc(allowed, func(s string) bool { return slices.Contains(off, s) })
	if len(allowed) == 0 {
		return []string{noService}
	}
	return allowed
}

// serviceWord takes the name of a service as iRedMail and people write it. What
// is no protocol of ours stays: who is allowed that and nothing else is allowed
// no protocol.
func serviceWord(v string) (string, error) {
	v, err := text(v)
	v = strings.ToLower(v)
	bare := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(v, "secured"), "tls"), "ssl")
	switch bare {
	case "imap", "imap4":
		return "imap", err
	case "pop3", "pop":
		return "pop3", err
	case "smtp", "submission":
		return "submission", err
	case "sieve", "managesieve":
		return "sieve", err
	}
	return v, err
}

// protocolSettings takes what Exchange lets a person not use: IMAP4§0§… or
// POP3§0§….
func protocolSettings(v string) (string, error) {
	parts := strings.SplitN(v, "§", 3)
	if len(parts) < 2 || parts[1] != "0" {
		return "", nil
	}
	switch parts[0] {
	case "IMAP4":
		return "imap", nil
	case "POP3":
		return "pop3", nil
	}
	return "", nil
}

// sambaFlags takes the flags of an account of Samba 3, [UD         ].
func sambaFlags(v string) (string, error) {
	switch {
	case strings.Contains(v, "D"):
		return "disabled", nil
	case strings.Contains(v, "L"):
		return "locked", nil
	}
	return "", nil
}
