package krb5

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"dirpost/internal/gssapi"
	"dirpost/internal/testenv"
)

// TestBinding: what MIT Kerberos sends of a TLS connection is what we compare it with,
// in Kerberos alone and within SPNEGO, and it takes our proof.
func TestBinding(t *testing.T) {
	t.Parallel()
	r := testenv.StartRealm(t, "CORP.EXAMPLE")
	r.AddPerson(t, "alice")
	a := New(Config{})
	if err := a.SetKeytab("", r.Keytab(t, "HTTP/mail.corp.example")); err != nil {
		t.Fatal(err)
	}
	var channel Channel
	s := httptest.NewUnstartedServer(nil)
	s.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		channel = Channel{State: r.TLS, Certificate: s.Certificate()}
	})
	s.StartTLS()
	defer s.Close()
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()

	// That of Debian: its packages are what another one does not see.
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "testdata/bound.py", "HTTP@mail.corp.example", hex.EncodeToString(gssapi.EndPoint(s.Certificate())))
	cmd.Env = append(cmd.Environ(), testenv.KerberosLogin(t, map[string]string{r.Name: r.KDC}, "alice@CORP.EXAMPLE", "alice")...)
	var problems strings.Builder
	cmd.Stderr = &problems
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	var bound []bool
	for lines.Scan() && lines.Text() != "complete" {
		peer, reply, err := a.Negotiate("Negotiate "+lines.Text(), channel)
		if err != nil {
			t.Fatal(err)
		}
		bound = append(bound, peer.Bound)
		fmt.Fprintln(in, strings.TrimPrefix(reply, "Negotiate "))
		if _, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(reply, "Negotiate ")); err != nil {
			t.Fatal(err)
		}
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil || fmt.Sprint(bound) != "[true true false]" {
		t.Errorf("bound: %v, %v: %s", bound, err, problems.String())
	}
}
