package main

import (
	"context"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/internal/testenv"

	"github.com/emersion/go-smtp"
	"github.com/go-ldap/ldap/v3"
)

// notRunHere are the commands of the pages that TestDocCommands does not run, by how
// they begin, and why: they end up in another test, or cannot be run on this machine.
var notRunHere = []struct{ begins, why, test string }{
	{"dirpost serve", "does not end", "TestEndToEnd"},
	{"dirpost join", "wants a domain controller", "TestJoinCommand"},
	{"sudo dirpost setup", "makes a server of the whole host", "TestSetupAnswers"},
	{"dirpost setup --dir", "makes a server of a directory", "TestSetupServes"},
	{"dirpost doctor --outside", "wants a machine elsewhere", "TestDoctorOutside"},
	{"dirpost demo", "is a company of its own", "TestDemo"},
	{"dirpost cert renew", "wants an authority", "TestACME"},
	{"dirpost mailbox attach", "wants somebody who came back as another entry", "TestMailboxCommand"},
	{"make deb && sudo apt-get install", "wants a root of its own", "TestAcceptancePackage"},
	{"sudo apt-get install", "wants a root of its own", "TestAcceptancePackage"},
	{"sudo systemctl", "wants systemd", ""},
	{"systemctl", "wants systemd", ""},
	{"install -d -o dirpost", "wants the accounts of two packages", "TestAcceptanceAuthSocket"},
	{"swaks", "asks for the password at a terminal", "TestAcceptanceAuthSocket"},
	{"docker build", "wants Docker", "TestImage"},
	{"docker compose", "wants Docker", "TestCompose"},
	{"cd deploy/container", "is for the lines below it", ""},
	{"mkdir tls", "wants a certificate", "TestCompose"},
	{"mkdir -p secrets", "asks for the password at a terminal", "TestComposeSecrets"},
	{"sudo ./secrets.sh", "writes into the sources", "TestComposeSecrets"},
	{"$EDITOR", "is somebody's work", ""},
	{"kubectl", "wants a cluster", "TestChart"},
	{"helm install", "wants a cluster", "TestChart"},
	{"kadmin:", "is typed into MIT's administration of a KDC", ""},
	{"dsacls", "Windows", ""},
	{"Set-ADUser", "Windows", ""},
	{"ldbmodify", "Samba's own database, as root on a controller", ""},
}

// docExits are exit codes that are not 0, by how the command begins: nothing of
// corp.example is published in the DNS, and the certificate is for localhost.
var docExits = map[string][]int{
	"dirpost doctor":    {0, 1, 2},
	"dirpost dns check": {1},
}

// TestDocCommands runs every command of the pages as it stands there, but for the
// names: example.com is corp.example. What a page takes for granted, a message in the
// queue or a certificate of Alice, is there.
func TestDocCommands(t *testing.T) {
	t.Parallel()
	d := newDocRunner(t)
	used := map[string]bool{}
	pages := docPages(t)
	for _, page := range sortedKeys(pages) {
		if page == "docs/manage-mailboxes.md" {
			continue // TestDemo and TestDemoAD run it
		}
		all := commandsOf(blocksOf(page, pages[page]))
		if page == "docs/troubleshooting.md" {
			all = append(all, inlineCommands(page, pages[page])...) // its tables say what to run
		}
		for _, c := range all {
			i := slices.IndexFunc(notRunHere, func(e struct{ begins, why, test string }) bool {
				return strings.HasPrefix(c.text+" ", e.begins+" ")
			})
			if i >= 0 {
				used[notRunHere[i].begins] = true
				continue
			}
			out, code := d.run(c.text)
			want := []int{0}
			for begins, exits := range docExits {
				if strings.HasPrefix(c.text, begins) {
					want = exits
				}
			}
			if !slices.Contains(want, code) {
				t.Errorf("%s:%d: %s\nexit %d, want %v: %s", c.page, c.line, c.text, code, want, out)
			}
		}
	}
	tests := testNames(t)
	for _, e := range notRunHere {
		if !used[e.begins] {
			t.Errorf("no page says %q: it need not stand in the list", e.begins)
		}
		if e.test != "" && !tests[e.test] {
			t.Errorf("%q: there is no %s", e.begins, e.test)
		}
	}
}

// inlineCommands are the commands of ours in running text.
func inlineCommands(page, text string) (all []docCommand) {
	for _, m := range inlineCommand.FindAllStringSubmatchIndex(text, -1) {
		all = append(all, docCommand{page: page, line: 1 + strings.Count(text[:m[0]], "\n"), text: text[m[2]:m[3]]})
	}
	return all
}

// TestSymptoms: what docs/troubleshooting.md says that one sees, answers and lines of
// the log, is what the program says.
func TestSymptoms(t *testing.T) {
	t.Parallel()
	said := sources(t)
	page := docPages(t)["docs/troubleshooting.md"]
	n := 0
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]*`+"`"+`[^|]*) \|`).FindAllStringSubmatch(page, -1) {
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			for _, text := range symptoms(m[1]) {
				if n++; !strings.Contains(said, text) {
					t.Errorf("%q: nothing says %q", m[0], text)
				}
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d symptoms were found", n)
	}
}

// smtpAnswer is an answer with its codes, IMAP's one with its response code.
var smtpAnswer = regexp.MustCompile(`^(\d{3})(?: (\d\.\d+\.\d+))?(?: (.*))?$|^NO \[([A-Z]+)\]$`)

// symptoms are the pieces of a symptom that stand in the program.
func symptoms(text string) []string {
	if m := smtpAnswer.FindStringSubmatch(text); m != nil {
		return slices.DeleteFunc([]string{m[1], m[2], m[3], m[4]}, func(s string) bool { return s == "" })
	}
	var all []string
	for _, piece := range strings.Split(text, "…") {
		_, value, isField := strings.Cut(piece, "=") // of the log
		if isField {
			piece = value
		}
		if piece = strings.TrimSpace(piece); piece != "" {
			all = append(all, piece)
		}
	}
	return all
}

// sources is all that the program may say: its Go files without tests.
func sources(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("git", "-C", "../..", "ls-files", "--", "*.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range strings.Fields(string(out)) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// testNames are the tests of this package, of all builds.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(b, -1) {
			names[string(m[1])] = true
		}
	}
	return names
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// A docRunner runs commands beside a node that serves.
type docRunner struct {
	*system
	work  string // directory in which they run
	bin   string // wrappers of programs
	dns   *testenv.DNSServer
	token string
}

// newDocRunner makes the system that the pages speak of.
func newDocRunner(t *testing.T) *docRunner {
	t.Helper()
	peer := testenv.SMTP(t, testenv.SMTPRefusal{Rcpt: func(string) error {
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "not now"}
	}}, nil)
	dns, issuer := testenv.DNS(t), testenv.NewIssuer(t)
	people := testenv.NewPeopleCA(t, pkix.Name{CommonName: "Corp people CA"})
	s := newSystem(t, fmt.Sprintf(`smarthost = %q
smarthost_tls = "none"
resolvers = [%q]
[auth.certificates]
ca = [%q]
[[auth.oauth]]
issuer = %q
audience = ["dirpost"]
ca = %q
claim = "directory_id"
match = "id"
`, peer.Addr, dns.Addr, people.CAFile, issuer.URL, issuer.CAFile))
	s.change("[auth]\n", "domain = \"CORP\"\ntrusted = [\"certificate\"]\nmapping = { login = [\"uid\", \"uid:netbios\"], certificate = [\"userCertificate;binary:certificate\"] }\n[auth]\n")
	s.change("url = ", fmt.Sprintf("owner_url = %q\nurl = ", strings.Replace(s.file.Database.URL, "dirpost_serve@", "postgres@", 1)))
	d := &docRunner{system: s, work: filepath.Join(s.dir, "work"), bin: filepath.Join(s.dir, "bin"), dns: dns}
	for _, dir := range []string{d.work, d.bin} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	alice := people.Issue("alice", nil)
	req := ldap.NewModifyRequest(s.person("alice"), nil)
	req.Replace("userCertificate;binary", []string{string(alice.TLS.Leaf.Raw)})
	if err := s.admin().Modify(req); err != nil {
		t.Fatal(err)
	}
	s.start()
	d.token = issuer.Token(map[string]any{"directory_id": s.uuid("alice"), "sub": "7"})
	d.files(alice)
	d.wrappers()
	return d
}

// files writes what commands name.
func (d *docRunner) files(alice testenv.Cert) {
	d.t.Helper()
	b, err := os.ReadFile(d.config)
	if err != nil {
		d.t.Fatal(err)
	}
	key, err := os.ReadFile(alice.KeyFile)
	if err != nil {
		d.t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: alice.TLS.Leaf.Raw})
	for name, text := range map[string]string{
		"alice.pem": string(cert), "alice.key": string(key), "token.txt": d.token + "\n", "new.toml": string(b),
		"leavers.ldif": "dn: " + d.person("yuki") + "\nchangetype: delete\n",
		"change.ldif":  "dn: " + d.person("yuki") + "\nchangetype: modify\nreplace: description\ndescription: changed\n",
	} {
		if err := os.WriteFile(filepath.Join(d.work, name), []byte(text), 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(d.dir, "etc", "tls"), 0o700); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "etc", "tls", "key.pem"), key, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// wrappers puts programs before those of the machine that do what an administrator
// does by hand: passwords, the way to a server that has another name here.
func (d *docRunner) wrappers() {
	d.t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		d.t.Fatal(err)
	}
	database, err := url.Parse(d.file.Database.OwnerURL)
	if err != nil {
		d.t.Fatal(err)
	}
	host, port := database.Query().Get("host"), database.Query().Get("port")
	if host == "" {
		host, port = database.Hostname(), database.Port()
	}
	pg := fmt.Sprintf("export PGHOST='%s' PGPORT='%s' PGUSER=postgres; exec ", host, port)
	for name, script := range map[string]string{
		"dirpost":    asProgram + "=1 exec '" + os.Args[0] + "' \"$@\"",
		"sudo":       "[ \"$1\" = -u ] && shift 2\nexec \"$@\"",
		"make":       "exec " + testenv.Need(d.t, "make") + " -C '" + root + "' -n \"$@\"", // there is such a target, and what it needs
		"psql":       pg + testenv.Need(d.t, "psql") + " -v ON_ERROR_STOP=1 \"$@\"",
		"createdb":   pg + testenv.Need(d.t, "createdb") + " \"$@\"",
		"journalctl": "exec cat '" + filepath.Join(d.dir, "log") + "'",
		"curl": fmt.Sprintf("exec %s -sS --max-time 60 --insecure --connect-to mail.corp.example:443:%s --connect-to mail.corp.example:993:%s \"$@\"",
			testenv.Need(d.t, "curl"), d.addr["https"], d.addr["imaps"]),
		"ldapmodify": fmt.Sprintf("export LDAPTLS_CACERT='%s'\nfor a; do shift; if [ \"$a\" = -W ]; then set -- \"$@\" -w '%s'; else set -- \"$@\" \"$a\"; fi; done\nexec %s -x \"$@\"",
			filepath.Join(d.dir, "ldap-ca.pem"), d.slapd.AdminPassword, testenv.Need(d.t, "ldapmodify")),
	} {
		if err := os.WriteFile(filepath.Join(d.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			d.t.Fatal(err)
		}
	}
}

// queueID is a word that stands for one.
var queueID = regexp.MustCompile(`\b(ID|0v5x2k8w3m1pq|72mjbnp265kqk)\b`)

// here is a command with the names that hold here.
func (d *docRunner) here(text string) string {
	if docSQL.MatchString(text) {
		return d.sql(text)
	}
	if strings.HasPrefix(text, "sudo -u postgres") {
		return strings.ReplaceAll(text, "dirpost", fmt.Sprintf("docs%d_dirpost", os.Getpid()))
	}
	if queueID.MatchString(text) {
		id := d.waiting()
		if strings.Contains(text, "reject") || strings.Contains(text, "release") {
			d.command(0, "queue", "hold", id)
		}
		text = queueID.ReplaceAllString(text, id)
	}
	return strings.NewReplacer(
		"[NAME]", "corp", "TOKEN", d.token, "USER:", "alice@corp.example:",
		"dc=example,dc=com", d.slapd.Base, "ldaps://ldap1.example.com", d.slapd.TLSURL, "ldaps://ldap.example.com", d.slapd.TLSURL,
		"mail.example.com:993", d.addr["imaps"], "example.com", "corp.example", "example.org", "elsewhere.example",
		"192.0.2.53", d.dns.Addr, "2026-11-24T09:30", time.Now().Format("2006-01-02T15:04"), "/etc/dirpost/", filepath.Join(d.dir, "etc")+"/",
		"dirpost.toml", filepath.Base(d.config),
	).Replace(text)
}

// sql is the command that has a statement run by who owns the database, and leaves the
// server as it was: other tests use it.
func (d *docRunner) sql(statement string) string {
	switch {
	case strings.HasPrefix(statement, "grant "):
		return "psql -c 'begin' -c \"" + statement + "\" -c 'rollback'"
	case strings.HasPrefix(statement, "alter system set "):
		name := strings.Fields(statement)[3]
		return "psql -c \"" + statement + "\" -c 'alter system reset " + name + "'"
	}
	return "psql -c \"" + statement + "\""
}

// waiting returns the queue id of a new message that the next hop does not take now.
func (d *docRunner) waiting() string {
	d.t.Helper()
	d.eventually("a message waits", func() bool { // a page has logged her out just now
		return d.submit("alice", "alice@corp.example", []string{"later@elsewhere.example"}, "From: alice@corp.example\r\nSubject: later\r\n\r\nText.\r\n") == nil
	})
	ids := regexp.MustCompile(`msg="message accepted" room=mta/intake queue_id=(\w+)`).FindAllStringSubmatch(d.logs.String(), -1)
	return ids[len(ids)-1][1]
}

// run runs a command, a simple one of ours in this process, and returns what it says
// and its exit code.
func (d *docRunner) run(text string) (string, int) {
	d.t.Helper()
	text = d.here(text)
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute)
	defer cancel()
	if words, err := shellWords(text); err == nil && words[0] == "dirpost" {
		var out lockedBuffer
		if slices.Contains(words, "--config") {
			for i, w := range words {
				if w == filepath.Base(d.config) {
					words[i] = d.config
				}
			}
		} else {
			words = append(words, "--config", d.config)
		}
		for i, w := range words {
			if w == "new.toml" || strings.HasSuffix(w, ".ldif") || strings.HasSuffix(w, "alice.pem") {
				words[i] = filepath.Join(d.work, w)
			}
		}
		code := run(ctx, words, streams{strings.NewReader(d.slapd.UserPassword + "\n"), &out, &out})
		return out.String(), code
	}
	if err := os.WriteFile(filepath.Join(d.dir, "log"), []byte(d.logs.String()), 0o600); err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "sh", "-ec", text)
	cmd.Dir = d.work
	cmd.Env = append(os.Environ(), "PATH="+d.bin+":"+os.Getenv("PATH"), "DIRPOST_CONFIG="+d.config)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		d.t.Fatalf("%s: %v", text, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}
