package join

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"dirpost/internal/gssapi"
)

// Account is the account of this system in a domain.
type Account struct {
	Domain     string   // DNS name, lower case
	Realm      string   // Kerberos
	NetBIOS    string   // of the domain: CORP in CORP\alice
	DomainSID  string   // S-1-5-21-…
	Base       string   // DN of the domain
	Level      int      // domainControllerFunctionality, see [ldap.RootDSE]
	Controller string   // the domain controller that was asked last
	Principal  string   // in Kerberos, without realm: MAIL$
	DN         string   // of the computer account, as it was then
	Host       string   // full name of the mail host
	Services   []string // names of our services, such as imap/mail.corp.example
	// Managed says that we have the password and change it. Else the keytab was
	// made elsewhere, and who has made it changes it.
	Managed bool
	// CA holds the authorities of the domain in PEM that were agreed to, "" for
	// none.
	CA string
}

// Key is a key of the account, with what it was made of.
type Key struct {
	Password string `json:"password,omitempty"` // "" with a keytab made elsewhere
	Salt     string `json:"salt,omitempty"`
	Keytab   []byte `json:"keytab"`
	KVNO     uint32 `json:"kvno"`
}

// passwordSize is what is random of a password, in octets: 120 characters.
const passwordSize = 90

// NewPassword returns a password for an account: 120 characters of ASCII, since
// the key is made of its UTF-8 and the domain gets it in UTF-16.
func NewPassword() string {
	raw := make([]byte, passwordSize)
	rand.Read(raw) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// services are the classes of service that mail has (the first part of their
// names).
var services = []string{"host", "imap", "pop", "smtp", "sieve", "HTTP"}

// serviceNames are the names of all services of a computer, by its short and its
// full name and by those that several nodes share.
func serviceNames(name, host string, shared []string) []string {
	var all []string
	for _, instance := range append([]string{host, name}, shared...) {
		for _, s := range services {
			if n := s + "/" + instance; !slices.ContainsFunc(all, func(o string) bool { return strings.EqualFold(o, n) }) {
				all = append(all, n)
			}
		}
	}
	return all
}

// ComputerName is the name for the computer of a host: the first label, at most 15
// characters of it.
func ComputerName(host string) string {
	label, _, _ := strings.Cut(host, ".")
	label = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, label)
	return strings.ToUpper(strings.Trim(label[:min(len(label), maxName)], "-"))
}

// maxName is how long the name of a computer may be (NetBIOS).
const maxName = 15

// checkName reports what is wrong with a name that somebody chose.
func checkName(name string) error {
	if name == "" || ComputerName(name) != strings.ToUpper(name) {
		return fmt.Errorf("%q is no name for a computer: up to %d letters, digits and hyphens", name, maxName)
	}
	return nil
}

// checkHost reports what is wrong with a host name. It goes into names of services,
// in which a slash has a meaning.
func checkHost(host string) error {
	ok := strings.Contains(host, ".") && !strings.HasPrefix(host, ".") && !strings.HasSuffix(host, ".") && len(host) <= 253
	for _, r := range host {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.')
	}
	if !ok {
		return fmt.Errorf("%q is no full host name such as mail.corp.example", host)
	}
	return nil
}

// makeKey makes the key of a password that was set at a time.
func (a Account) makeKey(password, salt string, kvno uint32, at time.Time) (Key, error) {
	keytab, err := gssapi.MakeKeytab(a.Realm, append([]string{a.Principal}, a.Services...), password, salt, kvno, at)
	if err != nil {
		return Key{}, err
	}
	return Key{Password: password, Salt: salt, Keytab: keytab, KVNO: kvno}, nil
}

// withKey is who has a key, for a connection.
func (a Account) withKey(k Key) gssapi.Account {
	return gssapi.Account{Principal: a.Principal, Realm: a.Realm, Keytab: k.Keytab}
}
