package testenv

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// ACMEServer is Pebble, the ACME server that Let's Encrypt tests clients with.
type ACMEServer struct {
	URL    string         // of its directory
	CAFile string         // whom its own certificate is from
	Roots  *x509.CertPool // the same
	Issuer *x509.CertPool // whom the certificates are from that it issues
}

// ACMEOptions are what a test wants of an authority.
type ACMEOptions struct {
	HTTPPort, TLSPort int    // where it validates names
	KeyID             string // of an account that it wants beforehand, "" none
	MACKey            string // of that, base64url
}

// ACME starts an authority that ends with the test. It finds names by dns.
func ACME(t testing.TB, dns *DNSServer, o ACMEOptions) *ACMEServer {
	t.Helper()
	program, err := exec.LookPath("pebble")
	if err != nil {
		t.Fatalf("%v: install the Debian package pebble, as make test does", err)
	}
	cert := Certificate(t)
	listen, manage := "127.0.0.1:"+freePort(t, "127.0.0.1"), "127.0.0.1:"+freePort(t, "127.0.0.1")
	config := map[string]any{
		"listenAddress": listen, "managementListenAddress": manage, "certificate": cert.CertFile, "privateKey": cert.KeyFile,
		"httpPort": o.HTTPPort, "tlsPort": o.TLSPort, "ocspResponderURL": "", "externalAccountBindingRequired": o.KeyID != "",
	}
	if o.KeyID != "" {
		config["externalAccountMACKeys"] = map[string]string{o.KeyID: o.MACKey}
	}
	text, err := json.Marshal(map[string]any{"pebble": config})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pebble.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-config", file, "-dnsserver", dns.Addr, "-strict")
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=20")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("pebble:\n%s", out.String())
		}
	})
	s := &ACMEServer{URL: "https://" + listen + "/dir", CAFile: cert.CAFile, Roots: cert.Pool, Issuer: x509.NewCertPool()}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: cert.Pool}, DisableKeepAlives: true}}
	deadline := time.Now().Add(time.Minute)
	for {
		root, err := get(client, "https://"+manage+"/roots/0")
		if err == nil && s.Issuer.AppendCertsFromPEM(root) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("pebble does not answer: %v", err)
		}
		time.Sleep(20 * time.Millisecond) // a process of its own can only be asked
	}
}

func get(client *http.Client, url string) ([]byte, error) {
	r, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, r.Status)
	}
	return io.ReadAll(r.Body)
}
