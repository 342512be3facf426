package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/logging"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/go-ldap/ldap/v3"
)

// asProgram makes the test binary the program itself: what is killed in tests is
// a process of its own.
const asProgram = "DIRPOST_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A system is Example Corp on a real database and a real directory, with a node
// that serves it.
type system struct {
	t      *testing.T
	slapd  *testenv.SlapdServer
	cert   testenv.Cert
	dir    string
	config string            // file
	addr   map[string]string // of each listener: "smtp", "submissions", "imaps", …
	file   *File
	node   *node // that start has started last
	logs   *lockedBuffer
	format string // of the log; "" is text
	socket string // for other programs; "": none
}

// listenerKinds are the listeners of a system.
var listenerKinds = []struct{ name, protocol, tls string }{
	{"smtp", "smtp", "starttls"}, {"submission", "submission", "starttls"}, {"submissions", "submission", "implicit"},
	{"imap", "imap", "starttls"}, {"imaps", "imap", "implicit"}, {"pop3", "pop3", "starttls"}, {"pop3s", "pop3", "implicit"},
	{"http", "http", "off"}, {"https", "http", "implicit"}, {"lmtp", "lmtp", "off"},
}

// newSystem makes everything but the node. extra goes into the section [mta].
func newSystem(t *testing.T, extra string) *system {
	t.Helper()
	s := newSystemOn(t, databaseURL(t), extra)
	s.confirm()
	return s
}

// databaseURL is a database with all migrations, as the role that serves.
func databaseURL(t *testing.T) string {
	t.Helper()
	url := testenv.DurablePostgresURL(t)
	// Nodes serve as the role that may change rows and nothing else.
	if err := postgres.Migrate(t.Context(), url, postgres.Roles{Serve: "dirpost_serve", Read: "dirpost_read"}, testLog(t)); err != nil {
		t.Fatal(err)
	}
	url = strings.Replace(url, "postgres://postgres@", "postgres://dirpost_serve@", 1)
	if !strings.Contains(url, "dirpost_serve") {
		t.Fatalf("no role in %s", url)
	}
	return url
}

// newSystemOn is newSystem on a database that has all migrations.
func newSystemOn(t *testing.T, url, extra string) *system {
	t.Helper()
	return newSystemIn(t, url, extra, testenv.Slapd(t))
}

// newSystemIn is newSystemOn with another directory.
func newSystemIn(t *testing.T, url, extra string, slapd *testenv.SlapdServer) *system {
	t.Helper()
	s := &system{t: t, logs: new(lockedBuffer), slapd: slapd, cert: testenv.Certificate(t), dir: shortDir(t), addr: make(map[string]string)}
	write := func(name, text string) string {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca, err := os.ReadFile(s.slapd.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `
[server]
name = "mail.corp.example"
socket = %q
sealing_key = "file:%s"
[domains]
local = ["corp.example"]
postmaster = "postmaster@corp.example"
[database]
url = %q
[directory.corp]
urls = [%q]
ca = %q
base = %q
bind_dn = %q
bind_password = "file:%s"
[auth]
failure_time = "50ms"
[auth.page]
notices = false
[[tls.certificate]]
chain = %q
key = %q
[mta]
%s
[mta.submission]
max_messages = 0
max_recipients = 0
exempt = []
[log]
level = "debug"
`, filepath.Join(s.dir, "sock"), write("sealing", base64.StdEncoding.EncodeToString(make([]byte, 32))), url,
		s.slapd.TLSURL, write("ldap-ca.pem", string(ca)), s.slapd.Base, s.slapd.ServiceDN, write("ldap", s.slapd.ServicePassword),
		s.cert.CertFile, s.cert.KeyFile, extra)
	for _, l := range listenerKinds {
		s.addr[l.name] = freeAddress(t)
		fmt.Fprintf(&b, "[[listener]]\naddress = %q\nprotocol = %q\ntls = %q\n", s.addr[l.name], l.protocol, l.tls)
	}
	s.config = write("dirpost.toml", b.String())
	if s.file, err = readConfig(s.config); err != nil {
		t.Fatal(err)
	}
	return s
}

// confirm says that an administrator has looked at corp.example.
func (s *system) confirm() {
	s.t.Helper()
	s.confirmAll("corp.example")
}

// confirmAll says it of some domains.
func (s *system) confirmAll(domains ...string) {
	s.t.Helper()
	var all []directory.Census
	for _, d := range domains {
		all = append(all, directory.Census{Domain: d})
	}
	db, err := openDatabase(s.t.Context(), s.file, testLog(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	if err := confirmDomains(s.t.Context(), s.file, db, all); err != nil {
		s.t.Fatal(err)
	}
}

// shortDir is a directory for Unix sockets, whose paths are short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// mustWrite makes a file.
func mustWrite(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// nextPort counts the ports that freeAddress has tried. What others get from the
// system lies above, the ports of demos below, and no two tests of this process get
// the same one.
var nextPort atomic.Int32

const firstPort, allPorts = 26_000, 6_000

// freeAddress is an address that is free now, and that nobody else will take.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range allPorts {
		port := firstPort + (int(nextPort.Add(1))+os.Getpid()*97)%allPorts
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		return l.Addr().String()
	}
	t.Fatal("no free port")
	return ""
}

// start runs a node in this process until the test ends or stop is called, and waits
// until it has read the directory.
func (s *system) start() (stop func()) {
	s.t.Helper()
	stop = s.startAway()
	wait, done := context.WithTimeout(s.t.Context(), time.Minute)
	defer done()
	if err := s.node.awaitDirectory(wait); err != nil {
		s.t.Fatal(err)
	}
	return stop
}

// startAway is start while the directory is away.
func (s *system) startAway() (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log, control, err := logging.New(io.MultiWriter(testWriter{s.t}, s.logs), logging.Config{Level: "info", Format: s.format})
	if err != nil {
		s.t.Fatal(err)
	}
	ready, ended := make(chan *node, 1), make(chan error, 1)
	srv := &server{path: s.config, sockets: newSockets(nil), log: log, control: control, ready: func(n *node) { ready <- n }}
	go func() { ended <- srv.run(ctx, s.file, nil) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				s.t.Errorf("the node ended with %v", err)
			}
		})
	}
	select {
	case err := <-ended:
		s.t.Fatalf("the node does not start: %v", err)
	case n := <-ready:
		s.node = n
		s.t.Cleanup(stop)
	}
	return stop
}

// process starts the node as a process of its own, which a test may kill.
func (s *system) process() *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--config", s.config)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	deadline := time.Now().Add(time.Minute)
	for {
		conn, err := net.Dial("tcp", s.addr["smtp"])
		if err == nil {
			_ = conn.Close()
			return cmd
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the process does not serve: %s", out.String())
		}
		time.Sleep(10 * time.Millisecond) // a process of its own can only be asked
	}
}

// tls trusts the server's certificate.
func (s *system) tls() *tls.Config { return &tls.Config{RootCAs: s.cert.Pool, ServerName: "localhost"} }

// deliver brings mail to port 25, and returns the server's error.
func (s *system) deliver(from string, to []string, msg string) error {
	c, err := smtp.Dial(s.addr["smtp"])
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SendMail(from, to, strings.NewReader(msg)); err != nil {
		return err
	}
	return c.Quit()
}

// submit submits mail as a person.
func (s *system) submit(who, from string, to []string, msg string) error {
	c, err := smtp.DialTLS(s.addr["submissions"], s.tls())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", who, s.slapd.UserPassword)); err != nil {
		return fmt.Errorf("log in as %s: %w", who, err)
	}
	if err := c.SendMail(from, to, strings.NewReader(msg)); err != nil {
		return err
	}
	return c.Quit()
}

// login opens an IMAP session.
func (s *system) login(who string) *imapclient.Client {
	s.t.Helper()
	c, err := imapclient.DialTLS(s.addr["imaps"], &imapclient.Options{TLSConfig: s.tls()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	if err := c.Login(who, s.slapd.UserPassword).Wait(); err != nil {
		s.t.Fatalf("log in as %s: %v", who, err)
	}
	return c
}

// tryLogin is login that may fail.
func (s *system) tryLogin(who string) (*imapclient.Client, error) {
	c, err := imapclient.DialTLS(s.addr["imaps"], &imapclient.Options{TLSConfig: s.tls()})
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() { _ = c.Close() })
	if err := c.Login(who, s.slapd.UserPassword).Wait(); err != nil {
		return nil, err
	}
	_, err = c.Select("INBOX", nil).Wait()
	return c, err
}

// read returns all messages of a mailbox.
func (s *system) read(c *imapclient.Client, mailbox string) []string {
	s.t.Helper()
	box, err := c.Select(mailbox, &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		s.t.Fatalf("select %s: %v", mailbox, err)
	}
	if box.NumMessages == 0 {
		return nil
	}
	section := &imap.FetchItemBodySection{Peek: true}
	var all imap.SeqSet
	all.AddRange(1, 0)
	got, err := c.Fetch(all, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		s.t.Fatalf("fetch %s: %v", mailbox, err)
	}
	var messages []string
	for _, m := range got {
		messages = append(messages, string(m.FindBodySection(section)))
	}
	return messages
}

// testWriter is the log of a test.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// testLog logs into the test.
func testLog(t *testing.T) *slog.Logger {
	return newLogger(LogSection{Level: "warn", Format: "text"}, testWriter{t})
}

// await reads a mailbox until it has n messages: what the queue delivers comes a
// moment later.
func (s *system) await(who, mailbox string, n int) []string {
	s.t.Helper()
	c := s.login(who)
	deadline := time.Now().Add(time.Minute)
	for {
		got := s.read(c, mailbox)
		if len(got) >= n {
			return got
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s of %s has %d messages, want %d", mailbox, who, len(got), n)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// admin is a connection to the directory that may change everything.
func (s *system) admin() *ldap.Conn {
	s.t.Helper()
	conn, err := ldap.DialURL(s.slapd.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.Bind(s.slapd.AdminDN, s.slapd.AdminPassword); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// uuid is the entryUUID of a person.
func (s *system) uuid(who string) string {
	s.t.Helper()
	res, err := s.admin().Search(ldap.NewSearchRequest(s.slapd.Base, ldap.ScopeWholeSubtree, 0, 0, 0, false, "(uid="+who+")", []string{"entryUUID"}, nil))
	if err != nil || len(res.Entries) != 1 {
		s.t.Fatalf("%s: %v", who, err)
	}
	return res.Entries[0].GetAttributeValue("entryUUID")
}

// awaitUUID waits until the server knows the entry of a person that the
// directory has now: until that logs in.
func (s *system) awaitUUID(who string) {
	s.t.Helper()
	want := "corp:" + s.uuid(who)
	deadline := time.Now().Add(time.Minute)
	for {
		db, err := openDatabase(s.t.Context(), s.file, testLog(s.t))
		if err != nil {
			s.t.Fatal(err)
		}
		snapshot, err := replicaOf(s.t.Context(), s.file, db)
		db.Close()
		if err != nil {
			s.t.Fatal(err)
		}
		if e := snapshot.ByLogin(who); e != nil && string(e.Key) == want {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the server does not see the new entry of %s", who)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
