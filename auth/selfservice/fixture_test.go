package selfservice

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/auth"
	"dirpost/auth/apppassword"
	"dirpost/auth/factor"
	"dirpost/auth/history"
	"dirpost/auth/notice"
	"dirpost/directory"
	"dirpost/directory/ldap"
	"dirpost/internal/event"
	"dirpost/internal/postgres"
	"dirpost/internal/seal"
	"dirpost/internal/testenv"
	"dirpost/internal/web"

	"github.com/prometheus/client_golang/prometheus"
)

// nobody carries no hints: there is one node.
type nobody struct{}

func (nobody) Publish(string, string)                       {}
func (nobody) Subscribe(string, func(string)) (stop func()) { return func() {} }

var quiet = slog.New(slog.DiscardHandler)

// events are what was emitted.
type events struct {
	mu  sync.Mutex // guards all
	all []event.Event
}

// Emit implements event.Sink.
func (s *events) Emit(_ context.Context, e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, e)
}

// has reports whether an event with this message was emitted, and fails if one has a
// secret in it.
func (s *events) has(msg string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.all {
		if e.Msg == msg {
			return true
		}
	}
	return false
}

// corp is a site for a directory, on a real listener.
type corp struct {
	t      *testing.T
	db     *postgres.DB
	live   *directory.Live
	site   *Site
	events *events
	url    string
	pool   *tls.Config
	killed chan directory.Key
}

// setting is what a test changes of a site.
type setting struct {
	auth  auth.Config
	parts auth.Parts
	site  Config
	apps  *apppassword.Store
}

// newCorp starts a site for a directory.
func newCorp(t *testing.T, cfg ldap.Config, change ...func(*corp, *setting)) *corp {
	t.Helper()
	client, err := ldap.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	c := &corp{t: t, db: testenv.Database(t), events: &events{}, killed: make(chan directory.Key, 100)}
	c.feed(client)
	sealer, err := seal.New(seal.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.url = "https://" + l.Addr().String()
	set := &setting{
		auth:  auth.Config{Inside: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, FailureTime: 20 * time.Millisecond, GuessBurst: 1000, BindTimeout: time.Minute},
		parts: auth.Parts{Verifiers: map[string]auth.Verifier{"corp": client}}, site: Config{Name: "mail.corp.example"},
	}
	for _, f := range change {
		f(c, set)
	}
	bridge := auth.New(set.auth, c.live, set.parts, c.events)
	factors := factor.New(c.db, sealer)
	if err := factors.UseKeys(factor.Site{Host: "localhost", Origins: []string{c.url}, Name: "Corp"}); err != nil {
		t.Fatal(err)
	}
	c.site, err = New(set.site, Deps{
		DB: c.db, Bridge: bridge, Live: c.live, Passwords: map[string]PasswordChanger{"corp": client}, Factors: factors,
		History: history.NewRecorder(c.db, quiet), Notices: notice.New(c.db, quiet), AppPasswords: set.apps,
		LogOut: func(k directory.Key) { bridge.LogOut(k, "logged out"); c.killed <- k }, Events: c.events, Log: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.serve(l)
	return c
}

// feed fills the snapshot, and goes on following the directory.
func (c *corp) feed(client *ldap.Client) {
	c.t.Helper()
	c.live = directory.Open(directory.Rules{Domains: []string{"corp.example"}})
	f := directory.NewFeeder(c.db, c.live, []directory.Source{client.Source(quiet)}, nobody{}, "test", quiet)
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Run(ctx)
	}()
	c.t.Cleanup(func() {
		cancel()
		<-done
	})
	c.await("the directory is complete", func(s *directory.Snapshot) bool { return s.Ready() && !s.Stale() && s.ByLogin("alice") != nil })
}

// await waits for the snapshot to be as it shall be.
func (c *corp) await(what string, ok func(*directory.Snapshot) bool) {
	c.t.Helper()
	changed := make(chan struct{}, 1)
	stop := c.live.Watch(func(*directory.Snapshot, []directory.Key) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer stop()
	limit := time.After(time.Minute)
	for !ok(c.live.Snapshot()) {
		select {
		case <-changed:
		case <-limit:
			c.t.Fatalf("never: %s", what)
		}
	}
}

// serve serves the site on l until the test ends.
func (c *corp) serve(l net.Listener) {
	c.t.Helper()
	cert := testenv.Certificate(c.t)
	s := web.New(web.Config{}, prometheus.NewRegistry(), nil, quiet)
	s.Handle(Root, c.site)
	c.pool = &tls.Config{RootCAs: cert.Pool}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.ServeTLS(ctx, l, &tls.Config{Certificates: []tls.Certificate{cert.TLS}}) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			c.t.Errorf("serve: %v", err)
		}
	})
}

// slapdCorp is a site for Example Corp in OpenLDAP.
func slapdCorp(t *testing.T) (*corp, *testenv.SlapdServer) {
	t.Helper()
	s := testenv.Slapd(t)
	return newCorp(t, slapdConfig(t, s)), s
}

func slapdConfig(t *testing.T, s *testenv.SlapdServer) ldap.Config {
	t.Helper()
	ca, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	return ldap.Config{Name: "corp", URLs: []string{s.TLSURL}, Base: s.Base, CA: string(ca), BindDN: s.ServiceDN, BindPassword: s.ServicePassword}
}

// browser is somebody's browser: it keeps cookies, and says from where a request is.
type browser struct {
	c      *corp
	client *http.Client
	page   string // text of the last answer
	path   string // of it, without Root
	code   int
	head   http.Header
}

func (c *corp) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: c.pool.Clone(), ForceAttemptHTTP2: true}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &browser{c: c, client: &http.Client{Transport: transport, Jar: jar}}
}

// do sends a request, and follows where it leads.
func (b *browser) do(r *http.Request) *browser {
	b.c.t.Helper()
	res, err := b.client.Do(r)
	if err != nil {
		b.c.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.c.t.Fatal(err)
	}
	b.page, b.code, b.head = string(text), res.StatusCode, res.Header
	b.path = strings.TrimPrefix(res.Request.URL.RequestURI(), Root)
	return b
}

func (b *browser) get(path string) *browser {
	b.c.t.Helper()
	r, err := http.NewRequest("GET", b.c.url+Root+path, nil)
	if err != nil {
		b.c.t.Fatal(err)
	}
	return b.do(r)
}

// post sends a form, with the token of the last page, as a browser does.
func (b *browser) post(path string, fields ...string) *browser {
	b.c.t.Helper()
	return b.do(b.form(path, fields...))
}

func (b *browser) form(path string, fields ...string) *http.Request {
	b.c.t.Helper()
	v := url.Values{"token": {b.find(`name="token" value="([^"]*)"`)}}
	for i := 0; i < len(fields); i += 2 {
		v.Set(fields[i], fields[i+1])
	}
	r, err := http.NewRequest("POST", b.c.url+Root+path, strings.NewReader(v.Encode()))
	if err != nil {
		b.c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.c.url)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

// find returns what the last page has at the group of a pattern, "" if it has it not.
func (b *browser) find(pattern string) string {
	m := regexp.MustCompile(pattern).FindStringSubmatch(b.page)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

// want checks where the last request has led, and that the page says something.
func (b *browser) want(code int, path, words string) {
	b.c.t.Helper()
	if b.code != code || b.path != path || words != "" && !strings.Contains(html.UnescapeString(b.page), words) {
		b.c.t.Errorf("got %d at %q, want %d at %q with %q:\n%s", b.code, b.path, code, path, words, b.page)
	}
}

// login logs in by password.
func (b *browser) login(user, password string) *browser {
	b.c.t.Helper()
	return b.post("login", "user", user, "password", password)
}

// adTLS trusts a domain controller.
func adTLS(t *testing.T, ad *testenv.ADServer) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ad.CA)) {
		t.Fatal("no certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: ad.Host}
}
