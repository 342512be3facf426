package ldap

import (
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/internal/testenv"
)

// config is Example Corp on a slapd of the test.
func config(t testing.TB, s *testenv.SlapdServer) Config {
	t.Helper()
	ca, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Name: "corp", URLs: []string{s.TLSURL}, Preset: PresetOpenLDAP, Base: s.Base,
		BindDN: s.ServiceDN, BindPassword: s.ServicePassword, CA: string(ca),
		ConnectTimeout: 10 * time.Second,
	}
}

func client(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// admin is a connection that may change everything.
func admin(t testing.TB, s *testenv.SlapdServer) *ldap.Conn {
	t.Helper()
	limitPackets()
	c, err := ldap.DialURL(s.SocketURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Bind(s.AdminDN, s.AdminPassword); err != nil {
		t.Fatal(err)
	}
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// modify changes one attribute of an entry; no values delete it.
func modify(t testing.TB, c *ldap.Conn, dn, attribute string, values ...string) {
	t.Helper()
	req := ldap.NewModifyRequest(dn, nil)
	req.Replace(attribute, values)
	must(t, c.Modify(req))
}

var quiet = slog.New(slog.DiscardHandler)

// silent returns the address of a server that never says anything.
func silent(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}()
	return l.Addr().String()
}
