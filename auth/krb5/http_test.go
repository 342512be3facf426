package krb5

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dirpost/internal/gssapi"
)

// browse lets curl ask a web server for a page over TLS, with the ticket that is in
// env, and returns who it was.
func browse(t *testing.T, a *Acceptor, env []string) *gssapi.Peer {
	t.Helper()
	var got *gssapi.Peer
	var failed error
	s := httptest.NewUnstartedServer(nil)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, reply, err := a.Negotiate(r.Header.Get("Authorization"), Channel{State: r.TLS, Certificate: s.Certificate()})
		if err != nil {
			failed = err
			w.Header().Set("WWW-Authenticate", "Negotiate")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		got = peer
		w.Header().Set("WWW-Authenticate", reply)
		_, _ = w.Write([]byte("welcome"))
	})
	s.StartTLS()
	defer s.Close()
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "curl", "-sS", "-k", "--max-time", "30", "--negotiate", "-u", ":", "--resolve", "mail.corp.example:"+port+":127.0.0.1", "https://mail.corp.example:"+port+"/")
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "welcome" || got == nil {
		t.Fatalf("curl: %v %s; %v", err, out, failed)
	}
	return got
}

// speak lets curl log in by SASL GSSAPI to as much of an IMAP server as it needs, with
// the ticket that is in env: context, offer and choice go through.
func speak(t *testing.T, a *Acceptor, env []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	failed := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = serveIMAP(c, a.Begin("imap", Channel{}))
			_ = c.Close()
		}
		failed <- err
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "curl", "-sS", "--max-time", "30", "--login-options", "AUTH=GSSAPI", "-u", "alice@CORP.EXAMPLE:", "--resolve", "mail.corp.example:"+port+":127.0.0.1", "-X", "NOOP", "imap://mail.corp.example:"+port+"/")
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if served := <-failed; err != nil || served != nil {
		t.Errorf("curl: %v %s; %v", err, out, served)
	}
}

// serveIMAP serves one client up to its LOGOUT.
func serveIMAP(c net.Conn, x *Exchange) error {
	r := bufio.NewReader(c)
	line := func() (string, error) {
		s, err := r.ReadString('\n')
		return strings.TrimRight(s, "\r\n"), err
	}
	fmt.Fprint(c, "* OK [CAPABILITY IMAP4rev1 AUTH=GSSAPI] ready\r\n")
	for {
		s, err := line()
		if err != nil {
			return err
		}
		tag, command, _ := strings.Cut(s, " ")
		switch {
		case strings.HasPrefix(command, "AUTHENTICATE GSSAPI"):
			var response []byte
			for {
				challenge, done, err := x.Next(response)
				if err != nil {
					return err
				}
				if done {
					break
				}
				fmt.Fprintf(c, "+ %s\r\n", base64.StdEncoding.EncodeToString(challenge))
				if s, err = line(); err != nil {
					return err
				}
				if response, err = base64.StdEncoding.DecodeString(s); err != nil {
					return err
				}
			}
		case command == "CAPABILITY":
			fmt.Fprint(c, "* CAPABILITY IMAP4rev1 AUTH=GSSAPI\r\n")
		case command == "LOGOUT":
			_, err := fmt.Fprintf(c, "* BYE\r\n%s OK\r\n", tag)
			return err
		}
		fmt.Fprintf(c, "%s OK done\r\n", tag)
	}
}

// copyFile copies a file to one of its own.
func copyFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestNegotiate: what is no ticket is refused.
func TestNegotiate(t *testing.T) {
	t.Parallel()
	a := New(Config{})
	for _, header := range []string{"", "Negotiate", "Negotiate !", "Basic YTpi", "Negotiate " + strings.Repeat("A", 70000), "Negotiate TlRMTVNTUAABAAAA"} {
		_, reply, err := a.Negotiate(header, Channel{})
		_, flawed := errors.AsType[*gssapi.TokenError](err)
		if !errors.Is(err, ErrMalformed) && !flawed || reply != "" {
			t.Errorf("%.40q: %q, %v", header, reply, err)
		}
	}
}
