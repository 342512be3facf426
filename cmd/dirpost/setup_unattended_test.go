package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/child"
	"dirpost/internal/testenv"
)

// A setUp is a directory in which `dirpost setup` makes a server of Example Corp.
type setUp struct {
	*system
	answers map[string]string // key -> value as in TOML
	dns     *testenv.DNSServer
}

// nextLoopback counts the addresses of the loopback network that servers of setup
// listen on.
var nextLoopback atomic.Int32

// setupPorts is what is added to the ports of a server of setup.
const setupPorts = 20_000

// newSetUp is a host on which nothing was done yet. Its answers are right, but for
// the database, which is one of its own.
func newSetUp(t *testing.T) *setUp {
	t.Helper()
	s := &setUp{system: &system{t: t, logs: new(lockedBuffer), slapd: testenv.Slapd(t), dir: shortDir(t), addr: make(map[string]string)}}
	if err := os.Chmod(s.dir, 0o755); err != nil { // the account of PostgreSQL passes through
		t.Fatal(err)
	}
	s.cert = testenv.Certificate(t, "localhost", "mail.corp.example", "autoconfig.corp.example", "autodiscover.corp.example", "mta-sts.corp.example")
	address := fmt.Sprintf("127.%d.%d.%d", 64+os.Getpid()%64, os.Getpid()/64%256, 1+nextLoopback.Add(1))
	for name, port := range map[string]int{"smtp": 25, "submission": 587, "submissions": 465, "imaps": 993, "pop3s": 995, "https": 443, "http": 80} {
		s.addr[name] = net.JoinHostPort(address, strconv.Itoa(setupPorts+port))
	}
	s.dns = testenv.DNS(t, "mail.corp.example. IN A 127.0.0.1", "corp.example. IN MX 10 mail.corp.example.")
	s.config = filepath.Join(s.dir, "mail", "dirpost.toml")
	s.answers = map[string]string{
		"domains": `["corp.example"]`, "host": `"mail.corp.example"`, "resolvers": fmt.Sprintf("[%q]", s.dns.Addr), "inside": `["127.0.0.0/8"]`,
		"listen": strconv.Quote(address), "port_base": strconv.Itoa(setupPorts), "accept": "true",
		"directory.kind": `"account"`, "directory.urls": fmt.Sprintf("[%q]", s.slapd.TLSURL), "directory.ca": strconv.Quote(s.slapd.CAFile),
		"directory.bind_dn": strconv.Quote(s.slapd.ServiceDN), "directory.bind_password": strconv.Quote("file:" + s.secret("given", s.slapd.ServicePassword)),
		"database.kind":    `"private"`,
		"certificate.kind": `"files"`, "certificate.chain": strconv.Quote(s.cert.CertFile), "certificate.key": strconv.Quote(s.cert.KeyFile),
	}
	t.Cleanup(s.endDatabase)
	return s
}

// secret writes a secret into a file of ours.
func (s *setUp) secret(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// endDatabase ends the private database, which lives on after setup.
func (s *setUp) endDatabase() {
	b, err := os.ReadFile(filepath.Join(s.dir, "mail", "postgres", "data", "postmaster.pid"))
	if err != nil {
		return
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		s.t.Error(err)
		return
	}
	_ = syscall.Kill(pid, syscall.SIGQUIT)
	for range 6000 { // it is no child of ours, which could be waited for
		if !child.OwnsPIDFile(filepath.Join(s.dir, "mail", "postgres", "data", "postmaster.pid"), "postgres") || syscall.Kill(pid, 0) != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Errorf("PostgreSQL %d does not end", pid)
}

// answersFile writes the answers.
func (s *setUp) answersFile() string {
	var b strings.Builder
	for _, top := range []bool{true, false} {
		for _, k := range (&setupAnswers{}).keys() {
			v, ok := s.answers[k.name]
			if table, key, nested := strings.Cut(k.name, "."); ok && nested != top {
				if nested {
					fmt.Fprintf(&b, "%s.%s = %s\n", table, key, v)
				} else {
					fmt.Fprintf(&b, "%s = %s\n", k.name, v)
				}
			}
		}
	}
	path := filepath.Join(s.dir, "answers.toml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// setup runs `dirpost setup` without a person.
func (s *setUp) setup(code int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	var out, errs bytes.Buffer
	all := append([]string{"dirpost", "setup", "--dir", filepath.Dir(s.config)}, args...)
	if got := run(s.t.Context(), all, streams{strings.NewReader(""), &out, &errs}); got != code {
		s.t.Fatalf("%q: exit status %d, want %d: %s%s", all, got, code, out.String(), errs.String())
	}
	for _, secret := range []string{s.slapd.ServicePassword} {
		if strings.Contains(out.String()+errs.String(), secret) {
			s.t.Errorf("%q shows the password: %s%s", all, out.String(), errs.String())
		}
	}
	return out.String(), errs.String()
}

// tree is every file below a directory with its mode and content, but for the
// database.
func (s *setUp) tree() map[string]string {
	s.t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(filepath.Dir(s.config), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "postgres":
			return fs.SkipDir
		case d.IsDir() || !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, filepath.Dir(s.config)+"/")] = info.Mode().String() + " " + info.ModTime().String() + "\n" + string(b)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return all
}

// TestSetupServes: five answers in a file make a server that takes mail and hands it
// out. Run again with the same answers nothing changes; with another one, that alone.
func TestSetupServes(t *testing.T) {
	t.Parallel()
	s := newSetUp(t)
	file := s.answersFile()
	taken, err := net.Listen("tcp", s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	out, _ := s.setup(0, "--answers", file, "--dry-run")
	if me, _ := os.ReadFile("/proc/self/comm"); !strings.Contains(out, fmt.Sprintf("Port %d is taken by %s (process %d)", setupPorts+25, strings.TrimSpace(string(me)), os.Getpid())) {
		t.Errorf("does not say who has the port:\n%s", out)
	}
	_ = taken.Close()
	if err := os.Mkdir(filepath.Join(s.dir, "mail"), 0o755); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(s.dir, "mail", ".dirpost-setup-123") // of one that was killed
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs := s.setup(0, "--answers", file)
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Error("what a setup has left that was killed is still there")
	}
	if errs != "" {
		t.Errorf("said on the standard error: %s", errs)
	}
	t.Logf("\n%s", out)
	golden(t, "setup/unattended.out", s.normal(out))
	for name, mode := range map[string]fs.FileMode{"dirpost.toml": 0o640, "sealing.key": 0o600, "ldap.password": 0o600} {
		st, err := os.Stat(filepath.Join(s.dir, "mail", name))
		if err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	b, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "setup/dirpost.toml", s.normal(string(b)))
	if strings.Contains(string(b), s.slapd.ServicePassword) {
		t.Error("the password stands in the configuration")
	}

	if s.file, err = readConfig(s.config); err != nil {
		t.Fatal(err)
	}
	stop := s.start()
	if err := s.deliver("friend@partner.example", []string{"bob@corp.example"}, plain); err != nil {
		t.Fatalf("deliver: %v", err)
	}
	if got := s.read(s.login("bob"), "INBOX"); len(got) != 1 || !strings.HasSuffix(got[0], plain) {
		t.Errorf("INBOX of bob: %q", got)
	}

	// While it serves.
	before := s.tree()
	out, _ = s.setup(0, "--answers", file)
	contains(t, out, "nothing to change")
	s.same(before)
	out, _ = s.setup(0, "--unattended")
	contains(t, out, "nothing to change")
	s.same(before)

	// What somebody has written stays.
	edited := strings.Replace(string(b), "[auth]\n", "# mine\n[auth]\nfailure_time = \"3s\" # slow\n", 1)
	if err := os.WriteFile(s.config, []byte(edited), 0o640); err != nil {
		t.Fatal(err)
	}
	var result setupResult
	out, _ = s.setup(0, "--unattended", "--inside", "127.0.0.0/8,10.0.0.0/8", "--json")
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatal(err)
	}
	if len(result.Changes) != 1 || result.Changes[0] != (setupChange{"auth.inside", `["127.0.0.0/8", "10.0.0.0/8"]`}) || !result.Changed {
		t.Errorf("changes: %+v", result.Changes)
	}
	got, err := os.ReadFile(s.config)
	if want := strings.Replace(edited, `inside = ["127.0.0.0/8"]`, `inside = ["127.0.0.0/8", "10.0.0.0/8"]`, 1); err != nil || string(got) != want {
		t.Errorf("%v: the configuration is\n%s\nwant\n%s", err, got, want)
	}
	if old, err := os.ReadFile(s.config + ".old"); err != nil || string(old) != edited {
		t.Errorf("%v: the file of before is\n%s", err, old)
	}
	before = s.tree()
	out, _ = s.setup(0, "--unattended", "--host", "mx.corp.example", "--certificate-kind", "csr", "--dry-run")
	contains(t, out, `set server.name = "mx.corp.example"`, "set tls.certificate.chain = ", "write "+s.dir+"/mail/tls/request.csr")
	s.same(before)
	stop()
}

// same checks that no file has changed.
func (s *setUp) same(before map[string]string) {
	s.t.Helper()
	after := s.tree()
	delete(after, "dirpost.sock")
	for name, text := range after {
		if before[name] != text {
			s.t.Errorf("%s was\n%s\nand is\n%s", name, before[name], text)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			s.t.Errorf("%s is gone", name)
		}
	}
}

// normal is a text without what differs from run to run.
func (s *setUp) normal(text string) string {
	host, _, _ := net.SplitHostPort(s.addr["smtp"])
	text = strings.NewReplacer(filepath.Dir(s.cert.CertFile), "CERT", filepath.Dir(s.slapd.CAFile), "SLAPD", s.slapd.TLSURL, "ldaps://LDAP", s.dir, "DIR", host, "LISTEN", s.dns.Addr, "RESOLVER").Replace(text)
	for _, r := range [][2]string{
		{`PostgreSQL \d+`, "PostgreSQL NN"}, {`/postgresql/\d+/`, "/postgresql/NN/"}, {`runuser -u postgres -- `, ""},
		{`\d+ migrations`, "NN migrations"}, {`until \d{4}-\d\d-\d\d( \d\d:\d\d UTC)?`, "until DATE"}, {`certificate of 127[0-9.]+`, "certificate of LDAP"},
		{`draws no line \[[^]]*\]`, "draws no line [FOUND]"}, {`the main one first \[[^]]*\]`, "the main one first"}, {`\d{6}\w*\._domainkey`, "DAY._domainkey"}, {`the signing key \S+`, "the signing key DAY"},
		{`SHA-256 [0-9A-F]+`, "SHA-256 FINGERPRINT"}, {`3 1 1 [0-9a-f]+`, "3 1 1 HASH"}, {`id=[0-9a-z]+`, "id=ID"}, {`(?s)\( "v=DKIM1.*? \)`, "DKIM"}, {`%2F[^&]*%2Fmail`, "%2FDIR%2Fmail"}, {` {2,}`, "  "},
	} {
		text = regexp.MustCompile(r[0]).ReplaceAllString(text, r[1])
	}
	return text
}

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s (%v; -update writes it):\n%s\nwant\n%s", path, err, got, want)
	}
}

// TestSetupAnswers: the example of answers is one, and each is a flag.
func TestSetupAnswers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "answers.toml")
	if err := os.WriteFile(path, []byte(exampleAnswers()), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := readAnswers(path)
	if err != nil {
		t.Fatal(err)
	}
	if a.Directory.BindPassword != "file:/root/ldap.password" || a.Certificate.Kind != certificateFiles {
		t.Errorf("%+v", a)
	}
	all := regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(exampleAnswers(), "$1")
	if err := os.WriteFile(path, []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err = readAnswers(path); err != nil {
		t.Fatal(err)
	}
	for _, k := range a.keys() {
		if !k.given() {
			t.Errorf("%s is not in the example", k.name)
		}
		if setupCommand(new(string), streams{}).Flags().Lookup(k.flag()) == nil {
			t.Errorf("there is no flag --%s", k.flag())
		}
	}
	if err := os.WriteFile(path, []byte("domain = []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readAnswers(path); err == nil || !strings.Contains(err.Error(), `line 1: there is no answer "domain"`) {
		t.Error(err)
	}
}
