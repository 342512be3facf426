package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

// TestSetupWrong: each answer that is missing or wrong is one line that says so, and
// nothing is written.
func TestSetupWrong(t *testing.T) {
	t.Parallel()
	s := newSetUp(t)
	s.dns.Set(t, "mail.corp.example. IN A 127.0.0.1", "alias.corp.example. IN CNAME mail.corp.example.", "_ldap._tcp.plain.example. IN SRV 0 0 389 mail.corp.example.")
	good := s.answers
	other, expired := testenv.Certificate(t, "www.corp.example"), testenv.ExpiredCertificate(t, "mail.corp.example")
	file := func(name, text string) string { return fmt.Sprintf("%q", "file:"+s.secret(name, text)) }
	database := testenv.DurablePostgresURL(t)
	stranger := strings.Replace(database, "postgres://postgres@", "postgres://stranger@", 1)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/nowhere"
	for _, c := range []struct {
		name   string
		change map[string]string // "" takes an answer away
		want   string
	}{
		{"no domain", map[string]string{"domains": ""}, "domains: missing: "},
		{"bad domain", map[string]string{"domains": `["corp"]`}, `domains: "corp" is no domain`},
		{"no host", map[string]string{"host": ""}, "host: missing: "},
		{"bad host", map[string]string{"host": `"mail"`}, `host: "mail" is no full host name`},
		{"alias", map[string]string{"host": `"alias.corp.example"`}, "host: alias.corp.example is an alias (CNAME) of mail.corp.example"},
		{"bad postmaster", map[string]string{"postmaster": `"me"`}, `postmaster: "me" is no address`},
		{"bad address", map[string]string{"addresses": `["here"]`}, `addresses: "here" is no IP address`},
		{"bad resolver", map[string]string{"resolvers": `["no where"]`}, "resolvers: "},

		{"address of another", map[string]string{"listen": `"192.0.2.1"`}, "listen: 192.0.2.1 is no address of this host"},

		{"no directory", map[string]string{"directory.kind": ""}, "directory.kind: missing: "},
		{"bad directory", map[string]string{"directory.kind": `"nis"`}, `directory.kind: "nis" is neither join nor account`},
		{"no servers", map[string]string{"directory.urls": ""}, "directory.urls: missing: "},
		{"no URL", map[string]string{"directory.urls": `["ldap.corp.example"]`}, `directory.urls: "ldap.corp.example" is no URL`},
		{"unreachable", map[string]string{"directory.urls": `["ldaps://127.0.0.1:1"]`}, "connection refused: is the server running"},
		{"unknown domain", map[string]string{"directory.urls": "", "directory.domain": `"nowhere.example"`}, "directory.domain: find the servers of nowhere.example: the DNS has neither"},
		{"unknown authority", map[string]string{"directory.ca": ""}, "let ca name a file with the certificate of its authority"},
		{"no authority", map[string]string{"directory.ca": `"/nowhere"`}, "directory.ca: open /nowhere: "},
		{"password in the answers", map[string]string{"directory.bind_password": `"hunter2"`}, "directory.bind_password: a secret never stands"},
		{"no password", map[string]string{"directory.bind_password": ""}, "directory.bind_dn, directory.bind_password: one is missing"},
		{"wrong password", map[string]string{"directory.bind_password": file("wrong", "wrong")}, "refuses the password of "},
		{"empty password", map[string]string{"directory.bind_password": `"file:/dev/null"`}, "directory.bind_password: secret file:/dev/null: "},
		{"wrong base", map[string]string{"directory.base": `"ou=nowhere,dc=corp,dc=example"`}, "ou=nowhere,dc=corp,dc=example does not exist"},
		{"bad name", map[string]string{"directory.name": `"My corp"`}, `directory.name: "My corp" may have`},
		{"no domain to join", map[string]string{"directory.kind": `"join"`, "directory.urls": ""}, "directory.domain: missing: "},
		{"join what is no AD", map[string]string{"directory.kind": `"join"`, "directory.urls": "", "directory.domain": `"plain.example"`}, "plain.example is no domain of Active Directory"},
		{"join without a password", map[string]string{"directory.kind": `"join"`, "directory.domain": `"corp.example"`}, "directory.admin_password: missing: "},

		{"no database", map[string]string{"database.kind": ""}, "database.kind: missing: "},
		{"bad database", map[string]string{"database.kind": `"mysql"`}, `database.kind: "mysql" is neither`},
		{"no URL of it", map[string]string{"database.kind": `"given"`}, "database.url: missing: "},
		{"no PostgreSQL", map[string]string{"database.kind": `"given"`, "database.url": `"postgres://x@127.0.0.1:1/x?sslmode=verify-full"`}, "is PostgreSQL running"},
		{"insecure", map[string]string{"database.kind": `"given"`, "database.url": `"postgres://x:hunter2@192.0.2.1/x?sslmode=disable"`}, "without sslmode=verify-full"},
		{"forgets what it commits", map[string]string{"database.kind": `"given"`, "database.url": fmt.Sprintf("%q", testenv.PostgresURL(t))}, "database does not keep what it commits"},
		{"no such database", map[string]string{"database.kind": `"given"`, "database.url": fmt.Sprintf("%q", u.String())}, "make the database (createdb)"},
		{"no such role", map[string]string{"database.kind": `"given"`, "database.url": fmt.Sprintf("%q", stranger)}, "database, as its owner: "},

		{"no networks", map[string]string{"inside": ""}, "inside: missing: "},
		{"bad network", map[string]string{"inside": `["inside"]`}, `inside: "inside" is no network`},
		{"host bits", map[string]string{"inside": `["10.1.2.3/8"]`}, "inside: 10.1.2.3/8 is an address in the network 10.0.0.0/8"},
		{"everything", map[string]string{"inside": `["0.0.0.0/0"]`}, "inside: 0.0.0.0/0 is the whole Internet"},
		{"all and more", map[string]string{"inside": `["all", "10.0.0.0/8"]`}, "inside: all, or networks"},

		{"no certificate", map[string]string{"certificate.kind": ""}, "certificate.kind: missing: "},
		{"bad certificate", map[string]string{"certificate.kind": `"self"`}, `certificate.kind: "self" is none of`},
		{"no chain", map[string]string{"certificate.chain": `"/nowhere"`}, "certificate.chain: stat /nowhere: "},
		{"relative", map[string]string{"certificate.key": `"key.pem"`}, "certificate.key: name key.pem by its whole path"},
		{"key of another", map[string]string{"certificate.key": fmt.Sprintf("%q", other.KeyFile)}, "private key does not match public key"},
		{"for another name", map[string]string{"certificate.chain": fmt.Sprintf("%q", other.CertFile), "certificate.key": fmt.Sprintf("%q", other.KeyFile)}, "the certificate is for www.corp.example, and clients look for mail.corp.example"},
		{"expired", map[string]string{"certificate.chain": fmt.Sprintf("%q", expired.CertFile), "certificate.key": fmt.Sprintf("%q", expired.KeyFile)}, "the certificate has expired on "},
		{"no ACME", map[string]string{"certificate.kind": `"acme"`, "certificate.acme": `"https://127.0.0.1:1/"`}, "certificate.acme: "},
		{"ACME in clear", map[string]string{"certificate.kind": `"acme"`, "certificate.acme": `"http://127.0.0.1:1/"`}, "is no URL of an authority"},
		{"unknown answer", map[string]string{"certificate.kind": `"files"`, "certificate.chain": `"/nowhere"`, "port_base": "1"}, "certificate.chain"},
	} {
		s.answers = map[string]string{}
		for k, v := range good {
			s.answers[k] = v
		}
		for k, v := range c.change {
			if s.answers[k] = v; v == "" {
				delete(s.answers, k)
			}
		}
		_, errs := s.setup(1, "--answers", s.answersFile())
		if !strings.HasPrefix(errs, "dirpost: ") || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.want) || strings.Contains(errs, "hunter2") {
			t.Errorf("%s: said %q, want %q", c.name, errs, c.want)
		}
		if _, err := os.Stat(filepath.Dir(s.config)); !os.IsNotExist(err) {
			t.Fatalf("%s: something was made", c.name)
		}
	}
}

// TestSetupGiven: a database that is there, with a password that goes into files.
func TestSetupGiven(t *testing.T) {
	t.Parallel()
	s := newSetUp(t)
	owner := testenv.DurablePostgresURL(t)
	serve := strings.Replace(owner, "postgres://postgres@", "postgres://dirpost_serve:secret@", 1)
	s.answers["database.kind"], s.answers["database.url"], s.answers["database.owner_url"] = `"given"`, fmt.Sprintf("%q", serve), fmt.Sprintf("%q", owner)
	s.answers["certificate.kind"] = `"csr"`
	delete(s.answers, "accept")
	out, _ := s.setup(0, "--answers", s.answersFile())
	contains(t, out, "keeps what it commits", "request.csr", "directory check --accept", "Now run:\n\n  dirpost setup --config "+s.config)
	b, err := os.ReadFile(s.config)
	if err != nil || strings.Contains(string(b), "secret@") {
		t.Errorf("%v: the configuration has the password:\n%s", err, b)
	}
	if pass, err := os.ReadFile(filepath.Join(s.dir, "mail", "pgpass")); err != nil || string(pass) != "*:*:*:*:secret\n" {
		t.Errorf("pgpass: %q, %v", pass, err)
	}
	request, err := os.ReadFile(filepath.Join(s.dir, "mail", "tls", "request.csr"))
	if err != nil || !strings.HasPrefix(string(request), "-----BEGIN CERTIFICATE REQUEST-----") {
		t.Errorf("%v: %s", err, request)
	}
	before := s.tree()
	out, _ = s.setup(0, "--answers", s.answersFile())
	contains(t, out, "nothing to change")
	s.same(before)

	// The authority has answered: here one that took another key.
	chain, err := os.ReadFile(s.cert.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "mail", "tls", "fullchain.pem"), chain, 0o644); err != nil {
		t.Fatal(err)
	}
	_, errs := s.setup(1, "--unattended")
	contains(t, errs, "private key does not match public key")

	// Nobody types a password where others see it.
	_, errs = s.setup(1, "--unattended", "--database-url", "postgres://dirpost_serve:hunter2@db.example/dirpost")
	if !strings.Contains(errs, "everybody on this host sees a password") || strings.Contains(errs, "hunter2") {
		t.Errorf("a password on the command line: %s", errs)
	}

	// With mail in it, there is no other database.
	_, errs = s.setup(1, "--unattended", "--database-kind", "private")
	contains(t, errs, "database.kind: the mail is in the database of ")
	_, errs = s.setup(1, "--unattended", "--directory-name", "other")
	contains(t, errs, "directory.name: the directory is corp")
	_, errs = s.setup(1, "--unattended", "--port-base", "1000")
	contains(t, errs, "change address in the sections [[listener]]")

	file, err := readConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	db, err := openDatabase(t.Context(), file, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// Only one at a time.
	lock, err := os.Open(filepath.Dir(s.config))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, "mail", "tls", "fullchain.pem")); err != nil {
		t.Fatal(err)
	}
	_, errs = s.setup(1, "--unattended")
	contains(t, errs, "another setup is at work there")
	_ = lock.Close()

	// A role that owns nothing, and a key that is lost.
	admin, err := postgres.Open(t.Context(), postgres.Config{URL: owner}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.Exec(t.Context(), postgres.Background, "create role setup_poor login"); err != nil {
		t.Fatal(err)
	}
	_, errs = s.setup(1, "--unattended", "--database-owner-url", strings.Replace(owner, "postgres://postgres@", "postgres://setup_poor@", 1))
	contains(t, errs, "setup_poor may make no tables in ", "alter database ")
	if _, err := admin.Exec(t.Context(), postgres.Background, "drop role setup_poor"); err != nil {
		t.Error(err)
	}
	key := filepath.Join(s.dir, "mail", "sealing.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	_, errs = s.setup(1, "--unattended")
	contains(t, errs, "sealing.key is not there: bring it back from a backup")
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}

	// What cannot be read is not changed.
	if err := os.WriteFile(s.config, append(b, "nonsense"...), 0o640); err != nil {
		t.Fatal(err)
	}
	_, errs = s.setup(1, "--unattended")
	contains(t, errs, "correct it, or move it away to begin anew")
	if err := os.WriteFile(s.config, b, 0o640); err != nil {
		t.Fatal(err)
	}

	var may bool
	if err := db.QueryRow(context.Background(), postgres.Background, `select has_schema_privilege(current_schema(), 'create')`).Scan(&may); err != nil || may {
		t.Errorf("the role that serves may make tables: %v, %v", may, err)
	}
}

// TestSetupACME: an authority that speaks ACME is asked what it is, and the
// configuration names it.
func TestSetupACME(t *testing.T) {
	t.Parallel()
	s := newSetUp(t)
	a := testenv.ACME(t, s.dns, testenv.ACMEOptions{HTTPPort: 1, TLSPort: 1})
	s.answers["certificate.kind"], s.answers["certificate.acme"], s.answers["certificate.acme_ca"] = `"acme"`, fmt.Sprintf("%q", a.URL), fmt.Sprintf("%q", a.CAFile)
	out, _ := s.setup(0, "--answers", s.answersFile())
	contains(t, out, "agree to its terms")
	file, err := readConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if file.ACME.Directory != a.URL || len(file.ACME.Names) != 3 || len(file.TLS.Certificate) != 0 {
		t.Errorf("%+v, %+v", file.ACME, file.TLS)
	}
	before := s.tree()
	out, _ = s.setup(0, "--unattended")
	contains(t, out, "nothing to change")
	s.same(before)
	// And back to files.
	out, _ = s.setup(0, "--unattended", "--certificate-kind", "files", "--certificate-chain", s.cert.CertFile, "--certificate-key", s.cert.KeyFile)
	if file, err = readConfig(s.config); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if file.usesACME() || len(file.TLS.Certificate) != 1 {
		t.Errorf("%+v, %+v", file.ACME, file.TLS)
	}
}

// joinAnswers are those for the domain of ad, which the DNS names.
func (s *setUp) joinAnswers(ad *testenv.ADServer, computer string) {
	s.dns.Set(s.t, "mail.corp.example. IN A 127.0.0.1", "_ldap._tcp.dc._msdcs.corp.example. IN SRV 0 100 389 dc1.corp.example.", "dc1.corp.example. IN A "+ad.Address)
	for k := range s.answers {
		if strings.HasPrefix(k, "directory.") {
			delete(s.answers, k)
		}
	}
	s.answers["directory.kind"], s.answers["directory.domain"], s.answers["directory.computer"] = `"join"`, `"corp.example"`, strconv.Quote(computer)
	// Services of the account have the name of the host.
	host := strings.ToLower(computer) + ".corp.example"
	s.answers["host"] = strconv.Quote(host)
	s.cert = testenv.Certificate(s.t, "localhost", host)
	s.answers["certificate.chain"], s.answers["certificate.key"] = strconv.Quote(s.cert.CertFile), strconv.Quote(s.cert.KeyFile)
	s.answers["directory.admin_password"] = strconv.Quote("file:" + s.secret("admin", ad.AdminPassword))
}

// setupTrusts: the authorities that a domain names are shown, and trusted if that is
// the answer.
func setupTrusts(t *testing.T, ad *testenv.ADServer, fingerprint string) {
	t.Helper()
	s := newSetUp(t)
	s.joinAnswers(ad, "TRUST")
	_, errs := s.setup(1, "--answers", s.answersFile())
	contains(t, errs, "it can be read, but nobody could log in: ")
	s.answers["directory.trust"], s.answers["directory.read_deleted"] = "true", "true"
	out, _ := s.setup(0, "--answers", s.answersFile())
	contains(t, out, fingerprint, "the certificate authorities of the domain are trusted", "the domain tells the account of deletions at once")
	contains(t, s.join(0, "", "status"), "trusts", fingerprint, "deletions   told at once")
	contains(t, s.join(0, ad.AdminPassword+"\n", "leave"), "The keys are forgotten.")
}

// TestSetupJoins: a domain of Active Directory that the DNS names is looked at as its
// administrator, joined, and serves; run again it is a member already.
func TestSetupJoins(t *testing.T) {
	t.Parallel()
	ad := testenv.AD(t)
	s := newSetUp(t)
	s.joinAnswers(ad, "SETUP")
	s.secret("admin", "wrong")
	_, errs := s.setup(1, "--answers", s.answersFile())
	contains(t, errs, "the password of Administrator@CORP.EXAMPLE is wrong")
	s.secret("admin", ad.AdminPassword)
	_, errs = s.setup(1, "--answers", s.answersFile())
	contains(t, errs, "it can be read, but nobody could log in: ", "certificate signed by unknown authority", "let ca name a file")
	s.answers["directory.ca"] = fmt.Sprintf("%q", s.secret("ca.pem", ad.CA))
	out, _ := s.setup(0, "--answers", s.answersFile(), "--dry-run")
	contains(t, out, "make the computer account SETUP$ in corp.example")
	out, errs = s.setup(0, "--answers", s.answersFile())
	if errs != "" || strings.Contains(out, ad.AdminPassword) {
		t.Errorf("said %s", errs)
	}
	t.Logf("\n%s", out)
	contains(t, out, "Active Directory corp.example", "people with an address of corp.example", "joined corp.example as SETUP$", "ad")

	before := s.tree()
	out, _ = s.setup(0, "--unattended")
	contains(t, out, "this system is a member already", "nothing to change")
	s.same(before)

	var err error
	if s.file, err = readConfig(s.config); err != nil {
		t.Fatal(err)
	}
	s.slapd.UserPassword = ad.UserPassword
	s.start()
	if err := s.deliver("friend@partner.example", []string{"alice@corp.example"}, plain); err != nil {
		t.Fatalf("deliver: %v", err)
	}
	if got := s.read(s.login("alice"), "INBOX"); len(got) != 1 {
		t.Errorf("INBOX of alice: %q", got)
	}
	contains(t, s.join(0, "", "leave", "--keep-account"), "The keys are forgotten.")
	_, errs = s.setup(1, "--answers", s.answersFile())
	contains(t, errs, "the computer account SETUP$ exists already", "directory.reuse")
}
