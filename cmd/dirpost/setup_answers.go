package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dirpost/directory/ldap"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"
)

// The kinds of answers.
const (
	directoryJoin    = "join"
	directoryAccount = "account"

	databasePrivate = "private"
	databaseGiven   = "given"

	certificateFiles = "files"
	certificateACME  = "acme"
	certificateCSR   = "csr"
)

// everywhere is the answer to which networks are inside that leaves the key out.
const everywhere = "all"

// setupAnswers are what `dirpost setup` wants to know. An empty value is no answer.
type setupAnswers struct {
	Domains    []string `toml:"domains"`
	Host       string   `toml:"host"`
	Postmaster string   `toml:"postmaster"`
	Addresses  []string `toml:"addresses"`
	Resolvers  []string `toml:"resolvers"`
	Inside     []string `toml:"inside"`
	Listen     string   `toml:"listen"`
	PortBase   int64    `toml:"port_base"`
	Accept     bool     `toml:"accept"`

	Directory   setupDirectory   `toml:"directory"`
	Database    setupDatabase    `toml:"database"`
	Certificate setupCertificate `toml:"certificate"`
}

type setupDirectory struct {
	Kind         string   `toml:"kind"`
	Name         string   `toml:"name"`
	Domain       string   `toml:"domain"`
	URLs         []string `toml:"urls"`
	TLS          string   `toml:"tls"`
	CA           string   `toml:"ca"`
	Base         string   `toml:"base"`
	BindDN       string   `toml:"bind_dn"`
	BindPassword string   `toml:"bind_password"`

	Admin         string `toml:"admin"`
	AdminPassword string `toml:"admin_password"`
	Computer      string `toml:"computer"`
	OU            string `toml:"ou"`
	Reuse         bool   `toml:"reuse"`
	Trust         bool   `toml:"trust"`
	ReadDeleted   bool   `toml:"read_deleted"`
}

type setupDatabase struct {
	Kind     string `toml:"kind"`
	URL      string `toml:"url"`
	OwnerURL string `toml:"owner_url"`
}

type setupCertificate struct {
	Kind    string `toml:"kind"`
	Chain   string `toml:"chain"`
	Key     string `toml:"key"`
	ACME    string `toml:"acme"`
	Contact string `toml:"contact"`
	ACMECA  string `toml:"acme_ca"`
}

// A setupKey is one answer, as files, flags and people have it.
type setupKey struct {
	name    string // in the file: directory.bind_dn; the flag is --directory-bind-dn
	doc     string
	example string // the value in the example, "" for one that is commented out by itself
	usual   bool   // stands in the example uncommented
	value   any    // *string, *[]string, *bool or *int64
}

// flag is the name of the flag.
func (k setupKey) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(k.name) }

// given reports whether there is an answer.
func (k setupKey) given() bool {
	switch v := k.value.(type) {
	case *string:
		return *v != ""
	case *[]string:
		return len(*v) > 0
	case *bool:
		return *v
	case *int64:
		return *v != 0
	}
	return false
}

// take copies the answer of another set.
func (k setupKey) take(from setupKey) {
	switch v := k.value.(type) {
	case *string:
		*v = *from.value.(*string)
	case *[]string:
		*v = slices.Clone(*from.value.(*[]string))
	case *bool:
		*v = *from.value.(*bool)
	case *int64:
		*v = *from.value.(*int64)
	}
}

// keys are all answers, in the order of the questions.
func (a *setupAnswers) keys() []setupKey {
	d, b, c := &a.Directory, &a.Database, &a.Certificate
	return []setupKey{
		{"domains", "1. The domains that mail is accepted for, the main one first.", `["example.com"]`, true, &a.Domains},
		{"host", "The name of this host as others see it; MX records will point to it.", `"mail.example.com"`, true, &a.Host},
		{"postmaster", "Who gets mail for postmaster@ and abuse@ of each domain; postmaster@ of the first without it.", `"alice@example.com"`, false, &a.Postmaster},
		{"addresses", "Public addresses of the host, for the records to publish; those that the DNS has, or this host itself, without it.", `["192.0.2.25"]`, false, &a.Addresses},
		{"resolvers", "DNS servers to ask, HOST:PORT; those of /etc/resolv.conf without it.", `["192.0.2.53:53"]`, false, &a.Resolvers},
		{"inside", "4. The networks that are inside; [\"all\"] draws no line between inside and outside.", `["10.0.0.0/8", "192.168.0.0/16"]`, true, &a.Inside},
		{"accept", "Take mail at once, without a look at the numbers: as 'dirpost directory check --accept'.", `true`, false, &a.Accept},
		{"listen", "The address to listen on, where the configuration is new; all of this host without it.", `"192.0.2.25"`, false, &a.Listen},
		{"port_base", "What is added to every port (25, 587, 465, 993, 995, 443, 80), where the configuration is new: for who is not root.", `10000`, false, &a.PortBase},

		{"directory.kind", "2. join (a computer account in a domain of Active Directory), or account (an account that reads, on any LDAP server).", `"account"`, true, &d.Kind},
		{"directory.name", "Its name in the configuration, part of each mailbox's key for good; corp without it.", `"corp"`, false, &d.Name},
		{"directory.domain", "The domain whose servers the DNS names: of Active Directory, or with records _ldap._tcp.", `"corp.example.com"`, false, &d.Domain},
		{"directory.urls", "The servers, instead of domain.", `["ldaps://ldap.example.com"]`, true, &d.URLs},
		{"directory.tls", "starttls, or ldaps with domain, or none for a server on this host.", `"starttls"`, false, &d.TLS},
		{"directory.ca", "The authority of the servers' certificates, a file in PEM; the system's without it.", `"/etc/dirpost/ldap-ca.pem"`, false, &d.CA},
		{"directory.base", "Below it are people and groups; what the server says without it.", `"dc=example,dc=com"`, false, &d.Base},
		{"directory.bind_dn", "account: who reads the directory.", `"cn=dirpost,ou=services,dc=example,dc=com"`, true, &d.BindDN},
		{"directory.bind_password", "account: its password, as file:/PATH. It is copied beside the configuration.", `"file:/root/ldap.password"`, true, &d.BindPassword},
		{"directory.admin", "join: who may make a computer account; Administrator without it.", `"Administrator"`, false, &d.Admin},
		{"directory.admin_password", "join: that password, as file:/PATH. It is needed once and not kept.", `"file:/root/admin.password"`, false, &d.AdminPassword},
		{"directory.computer", "join: the name of the computer account; the first label of host without it.", `"MAIL"`, false, &d.Computer},
		{"directory.ou", "join: where the account is made; where the domain wants computers without it.", `"OU=Servers,DC=corp,DC=example,DC=com"`, false, &d.OU},
		{"directory.reuse", "join: take over a computer account that is there.", `true`, false, &d.Reuse},
		{"directory.trust", "join: trust the certificate authorities that the domain names.", `true`, false, &d.Trust},
		{"directory.read_deleted", "join: let the account read deleted entries, so that the domain tells it of deletions at once.", `true`, false, &d.ReadDeleted},

		{"database.kind", "3. private (a cluster of its own, on this host), or given.", `"private"`, true, &b.Kind},
		{"database.url", "given: PostgreSQL as the role that serves. A password is moved to a file.", `"postgres://dirpost_serve@db.example.com/dirpost?sslmode=verify-full&passfile=/root/pgpass"`, false, &b.URL},
		{"database.owner_url", "given: as the owner of the database; the same as url without it.", `"postgres://dirpost@db.example.com/dirpost?sslmode=verify-full&passfile=/root/pgpass"`, false, &b.OwnerURL},

		{"certificate.kind", "5. files, acme (Let's Encrypt, or an authority in the house), or csr (a request for the company's authority).", `"files"`, true, &c.Kind},
		{"certificate.chain", "files: the certificate and those between it and the root, PEM.", `"/etc/dirpost/tls/fullchain.pem"`, true, &c.Chain},
		{"certificate.key", "files: its key, PEM.", `"/etc/dirpost/tls/key.pem"`, true, &c.Key},
		{"certificate.acme", "acme: the authority; Let's Encrypt without it. Whoever names one agrees to its terms.", `"https://acme-v02.api.letsencrypt.org/directory"`, false, &c.ACME},
		{"certificate.contact", "acme: whom the authority writes to; postmaster without it.", `"postmaster@example.com"`, false, &c.Contact},
		{"certificate.acme_ca", "acme: the authority of its own certificate, a file in PEM; the system's without it.", `"/etc/dirpost/acme-ca.pem"`, false, &c.ACMECA},
	}
}

// flags defines a flag for each answer.
func (a *setupAnswers) flags(f *pflag.FlagSet) {
	for _, k := range a.keys() {
		doc := strings.TrimSuffix(strings.TrimLeft(k.doc, "12345. "), ".")
		if strings.ToLower(doc[1:2]) == doc[1:2] { // no abbreviation
			doc = strings.ToLower(doc[:1]) + doc[1:]
		}
		switch v := k.value.(type) {
		case *string:
			f.StringVar(v, k.flag(), "", doc)
		case *[]string:
			f.StringSliceVar(v, k.flag(), nil, doc)
		case *bool:
			f.BoolVar(v, k.flag(), false, doc)
		case *int64:
			f.Int64Var(v, k.flag(), 0, doc)
		}
	}
}

// exampleAnswers is a file of answers with every key and what it means.
func exampleAnswers() string {
	var b strings.Builder
	b.WriteString("# Answers for 'dirpost setup --answers FILE'. Lines that begin with \"#\" and a key show\n# what else may be said. No password stands here: file:/PATH says where one is.\n")
	table := ""
	for _, k := range (&setupAnswers{}).keys() {
		name := k.name
		if t, key, ok := strings.Cut(k.name, "."); ok {
			name = key
			if t != table {
				fmt.Fprintf(&b, "\n[%s]", t)
				table = t
			}
		}
		mark := "#"
		if k.usual {
			mark = ""
		}
		fmt.Fprintf(&b, "\n# %s\n%s%s = %s\n", k.doc, mark, name, k.example)
	}
	return b.String()
}

// readAnswers reads a file of answers. A key that does not exist is an error.
func readAnswers(path string) (*setupAnswers, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("answers: %w", err)
	}
	var a setupAnswers
	err = toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&a)
	var missing *toml.StrictMissingError
	var syntax *toml.DecodeError
	switch {
	case errors.As(err, &missing):
		line, _ := missing.Errors[0].Position()
		return nil, fmt.Errorf("%s, line %d: there is no answer %q ('dirpost setup --answers-example' shows all)", path, line, strings.Join(missing.Errors[0].Key(), "."))
	case errors.As(err, &syntax):
		line, _ := syntax.Position()
		return nil, fmt.Errorf("%s, line %d: %s", path, line, strings.TrimPrefix(syntax.Error(), "toml: "))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &a, nil
}

// override puts the answers of another set in the place of those of a. What belongs
// to another kind of directory, database or certificate is forgotten with it.
func (a *setupAnswers) override(by *setupAnswers) {
	if k := by.Directory.Kind; k != "" && k != a.Directory.Kind {
		a.Directory = setupDirectory{Name: a.Directory.Name, Base: a.Directory.Base}
	}
	if len(by.Directory.URLs) > 0 {
		a.Directory.Domain, a.Directory.TLS = "", ""
	} else if by.Directory.Domain != "" {
		a.Directory.URLs, a.Directory.TLS = nil, ""
	}
	if k := by.Database.Kind; k != "" && k != a.Database.Kind && a.Database.Kind == databasePrivate {
		a.Database = setupDatabase{}
	}
	if k := by.Certificate.Kind; k != "" && k != a.Certificate.Kind && (k == certificateACME || a.Certificate.Kind == certificateACME) {
		a.Certificate = setupCertificate{}
	}
	theirs := by.keys()
	for i, k := range a.keys() {
		if theirs[i].given() {
			k.take(theirs[i])
		}
	}
}

// presentAnswers are those that a configuration holds, about one of its directories:
// the first of no other name.
func presentAnswers(f *File, path, directory string) *setupAnswers {
	a := &setupAnswers{
		Domains: f.Domains.Local, Host: f.Server.Name, Postmaster: f.Domains.Postmaster, Resolvers: f.MTA.Resolvers,
		Inside:   f.Auth.Inside,
		Database: setupDatabase{Kind: databaseGiven, URL: f.Database.URL, OwnerURL: f.Database.OwnerURL},
	}
	if len(a.Inside) == 0 {
		a.Inside = []string{everywhere}
	}
	if _, ok := f.Directory[directory]; !ok {
		directory = f.names()[0] // Validate has seen one
	}
	a.Directory = presentDirectory(directory, f.Directory[directory])
	switch {
	case f.usesACME():
		a.Certificate = setupCertificate{Kind: certificateACME, ACME: f.ACME.Directory, Contact: f.ACME.Contact, ACMECA: f.ACME.CA}
	case len(f.TLS.Certificate) > 0:
		c := f.TLS.Certificate[0]
		a.Certificate = setupCertificate{Kind: certificateFiles, Chain: c.Chain, Key: c.Key}
		if _, err := os.Stat(c.Chain); err != nil && c.Chain == csrChain(path) {
			a.Certificate.Kind = certificateCSR
		}
	}
	return a
}

// presentDirectory are the answers about a directory.
func presentDirectory(name string, d DirectorySection) setupDirectory {
	s := setupDirectory{Kind: directoryAccount, Name: name, Domain: d.Discover, URLs: d.URLs, TLS: d.TLS, CA: d.CA, Base: d.Base, BindDN: d.BindDN, BindPassword: d.BindPassword.String()}
	switch d.Bind {
	case ldap.BindJoined:
		s.Kind = directoryJoin
	case ldap.BindGSSAPI:
		s.Kind = ldap.BindGSSAPI // which setup does not ask for, and leaves as it is
	}
	return s
}

// csrChain is where the certificate is put that the company's authority makes.
func csrChain(path string) string { return filepath.Join(filepath.Dir(path), "tls", "fullchain.pem") }
