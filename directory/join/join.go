package join

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"dirpost/directory/ldap"
	"dirpost/internal/gssapi"
)

// Controller opens sealed connections to a domain; *ldap.Client is one.
type Controller interface {
	Open(ctx context.Context, a gssapi.Account) (*ldap.Session, error)
}

// Request says who joins what to which domain.
type Request struct {
	Domain   string // DNS name
	User     string // who may create computers: Administrator, CORP\admin or admin@corp.example
	Password string // of User; makes a key, and goes nowhere
	Name     string // of the computer; "" is made of Host
	OU       string // DN of the container for it; "" is that of the domain for computers
	Host     string // full name of the mail host
	// SharedNames are full names that several nodes have together.
	SharedNames []string
	// Reuse takes over an account that exists.
	Reuse bool
	// Command is how the command began that asks for all of this, for advice:
	// "dirpost join corp.example".
	Command string
}

// withDefaults fills in what is empty, and checks the rest.
func (r Request) withDefaults() (Request, error) {
	r.Domain = strings.ToLower(strings.TrimSuffix(r.Domain, "."))
	r.Host = strings.ToLower(strings.TrimSuffix(r.Host, "."))
	for _, host := range append([]string{r.Domain, r.Host}, r.SharedNames...) {
		if err := checkHost(host); err != nil {
			return r, err
		}
	}
	if r.Name == "" {
		r.Name = ComputerName(r.Host)
	}
	r.Name = strings.ToUpper(r.Name)
	if err := checkName(r.Name); err != nil {
		return r, err
	}
	if r.OU != "" {
		if _, err := goldap.ParseDN(r.OU); err != nil {
			return r, fmt.Errorf("%q is no DN such as OU=Servers,DC=corp,DC=example", r.OU)
		}
	}
	if r.Password == "" {
		return r, errors.New("no password")
	}
	if r.Command == "" {
		r.Command = "dirpost join " + r.Domain
	}
	return r, nil
}

// admin is who joins, to Kerberos.
func (r Request) admin() gssapi.Account {
	a := gssapi.Account{Principal: r.User, Realm: r.Domain, Password: r.Password}
	if name, realm, ok := strings.Cut(r.User, "@"); ok {
		a.Principal, a.Realm = name, realm
	} else if _, name, ok := strings.Cut(r.User, `\`); ok {
		a.Principal = name
	}
	a.Realm = strings.ToUpper(a.Realm)
	return a
}

// attributes of a computer account that a join looks at.
var attributes = []string{"distinguishedName", "objectClass", "userAccountControl", "servicePrincipalName", "msDS-KeyVersionNumber",
	"msDS-SupportedEncryptionTypes", "whenCreated", "pwdLastSet", "dNSHostName", "sAMAccountName", "objectSid"}

// Join makes the computer account of a domain, with a password of [NewPassword], or
// takes one over, and returns its key. The key was tried: a connection was bound
// with it. An error is a [Problem] where something can be done about it.
func Join(ctx context.Context, c Controller, r Request, password string) (Account, Key, error) {
	r, err := r.withDefaults()
	if err != nil {
		return Account{}, Key{}, err
	}
	s, err := c.Open(ctx, r.admin())
	if err != nil {
		return Account{}, Key{}, r.explainLogin(err)
	}
	defer s.Close()
	a, err := readDomain(ctx, s, r.Domain)
	if err != nil {
		return Account{}, Key{}, err
	}
	a.Principal, a.Host, a.Managed = r.Name+"$", r.Host, true
	a.Services = serviceNames(r.Name, r.Host, r.SharedNames)
	if err := r.put(ctx, s, &a, password); err != nil {
		return Account{}, Key{}, err
	}
	k, err := readKey(ctx, s, a, password)
	if err != nil {
		return Account{}, Key{}, &takenError{err}
	}
	own, err := c.Open(ctx, a.withKey(k))
	if err != nil {
		return Account{}, Key{}, &takenError{fmt.Errorf("account %s is there, but its key does not work: %w", a.DN, err)}
	}
	own.Close()
	return a, k, nil
}

// takenError is what went wrong after the domain had taken the password, or may have.
type takenError struct{ err error }

// Error implements error.
func (e *takenError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *takenError) Unwrap() error { return e.err }

// put makes the account in the domain, or takes it over.
func (r Request) put(ctx context.Context, s *ldap.Session, a *Account, password string) error {
	there, err := findAccount(ctx, s, a.Base, a.Principal)
	if err != nil {
		return err
	}
	if err := r.checkServices(ctx, s, a, there); err != nil {
		return err
	}
	if there != nil {
		a.DN = there.DN
		return r.takeOver(ctx, s, a, there, password)
	}
	container := r.OU
	if container == "" {
		if container, err = computersContainer(ctx, s, a.Base); err != nil {
			return err
		}
	}
	a.DN = "CN=" + r.Name + "," + container
	add := goldap.NewAddRequest(a.DN, nil)
	add.Attribute("objectClass", []string{"computer"})
	add.Attribute("sAMAccountName", []string{a.Principal})
	add.Attribute("userAccountControl", []string{strconv.Itoa(uacWorkstation)})
	add.Attribute("unicodePwd", []string{ldap.UnicodePwd(password)})
	add.Attribute("dNSHostName", []string{a.Host})
	add.Attribute("servicePrincipalName", a.Services)
	add.Attribute("msDS-SupportedEncryptionTypes", []string{onlyAES})
	add.Attribute("operatingSystem", []string{"Dirpost"})
	if err := s.Add(ctx, add); err != nil {
		if !isRefusal(err) {
			return &takenError{fmt.Errorf("make %s: %w", a.DN, err)}
		}
		return r.explainAdd(ctx, s, err, *a, container)
	}
	return nil
}

// Values of the attributes of a computer account.
const (
	uacDisabled    = 0x2
	uacWorkstation = 0x1000 // an ordinary member
	uacController  = 0x2000 | 0x4000000
	onlyAES        = "24" // AES128 and AES256, [MS-KILE] §2.2.7
)

// takeOver gives an account that exists to us.
func (r Request) takeOver(ctx context.Context, s *ldap.Session, a *Account, there *goldap.Entry, password string) error {
	control, _ := strconv.Atoi(there.GetAttributeValue("userAccountControl"))
	switch {
	case !slices.ContainsFunc(there.GetAttributeValues("objectClass"), func(c string) bool { return strings.EqualFold(c, "computer") }):
		return problem(fmt.Errorf("%s has the name %s and is no computer", there.DN, a.Principal), r.Command+" --name ANOTHER")
	case control&uacController != 0:
		return problem(fmt.Errorf("%s is a domain controller", there.DN), r.Command+" --name ANOTHER")
	case !r.Reuse:
		return problem(&existsError{*a, date(there.GetAttributeValue("whenCreated")), there.GetAttributeValue("dNSHostName")},
			r.Command+" --reuse", r.Command+" --name ANOTHER")
	}
	mod := goldap.NewModifyRequest(there.DN, nil)
	mod.Replace("unicodePwd", []string{ldap.UnicodePwd(password)})
	mod.Replace("dNSHostName", []string{a.Host})
	mod.Replace("servicePrincipalName", union(a.Services, there.GetAttributeValues("servicePrincipalName")))
	mod.Replace("msDS-SupportedEncryptionTypes", []string{onlyAES})
	if control&uacDisabled != 0 || control&uacWorkstation == 0 {
		mod.Replace("userAccountControl", []string{strconv.Itoa(control&^uacDisabled | uacWorkstation)})
	}
	if err := s.Modify(ctx, mod); err != nil {
		if !isRefusal(err) {
			return &takenError{fmt.Errorf("take over %s: %w", a.DN, err)}
		}
		return r.explainReuse(err, *a)
	}
	return nil
}

// existsError reports that there is an account already.
type existsError struct {
	account    Account
	made, host string
}

// Error implements error.
func (e *existsError) Error() string {
	return fmt.Sprintf("computer account %s exists already: %s, made %s, host %q", e.account.Principal, e.account.DN, e.made, e.host)
}

// union is a and what b has besides, without regard to case.
func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, v := range b {
		if !slices.ContainsFunc(all, func(o string) bool { return strings.EqualFold(o, v) }) {
			all = append(all, v)
		}
	}
	return all
}

// date is a time of LDAP for people.
func date(generalized string) string {
	t, err := time.Parse("20060102150405.0Z", generalized)
	if err != nil {
		return "some day"
	}
	return t.Format(time.DateOnly)
}

// findAccount returns the entry with a logon name, nil if there is none.
func findAccount(ctx context.Context, s *ldap.Session, base, name string) (*goldap.Entry, error) {
	entries, err := s.Search(ctx, base, goldap.ScopeWholeSubtree, "(sAMAccountName="+goldap.EscapeFilter(name)+")", attributes...)
	if err != nil {
		return nil, fmt.Errorf("search for %s: %w", name, err)
	}
	if len(entries) == 0 {
		return nil, nil
	}
	return entries[0], nil
}

// computersContainer is where the domain wants new computers. An administrator may
// have redirected that (redircmp); the well-known GUID follows.
func computersContainer(ctx context.Context, s *ldap.Session, base string) (string, error) {
	e, err := s.Read(ctx, "<WKGUID=AA312825768811D1ADED00C04FD8D5CD,"+base+">", "distinguishedName")
	if err != nil {
		return "", fmt.Errorf("look for the container of computers: %w", err)
	}
	if e == nil || e.GetAttributeValue("distinguishedName") == "" {
		return "CN=Computers," + base, nil
	}
	return e.GetAttributeValue("distinguishedName"), nil
}

// readKey makes the key of a password that the domain has just taken: it asks for
// the salt and the number.
func readKey(ctx context.Context, s *ldap.Session, a Account, password string) (Key, error) {
	e, err := s.Read(ctx, a.DN, "msDS-KeyVersionNumber")
	if err != nil {
		return Key{}, fmt.Errorf("read %s: %w", a.DN, err)
	}
	if e == nil {
		return Key{}, fmt.Errorf("%s may not be read", a.DN)
	}
	kvno, err := strconv.ParseUint(e.GetAttributeValue("msDS-KeyVersionNumber"), 10, 32)
	if err != nil {
		return Key{}, fmt.Errorf("%s has no msDS-KeyVersionNumber", a.DN)
	}
	salt, err := gssapi.Salt(ctx, gssapi.Account{Principal: a.Principal, Realm: a.Realm, KDCs: []string{s.KDC}})
	if err != nil {
		return Key{}, err
	}
	return a.makeKey(password, salt, uint32(kvno), time.Now())
}
