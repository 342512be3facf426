package auth

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dirpost/auth/certificate"
	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"
)

func TestExternal(t *testing.T) {
	t.Parallel()
	ca := testenv.NewPeopleCA(t, pkix.Name{CommonName: "CORP-CA"})
	m, err := certificate.New(certificate.Config{CA: []string{ca.CAFile}, Directories: []string{"corp"}})
	if err != nil {
		t.Fatal(err)
	}
	entries := people()
	for n, e := range entries {
		e.SID = "S-1-5-21-1-2-3-" + strconv.Itoa(1000+n)
	}
	sidOf := func(uid string) string {
		return entries[slices.IndexFunc(entries, func(e *directory.Entry) bool { return e.Logins[0] == uid })].SID
	}
	live, log := directory.NewLive(directory.NewSnapshot([]string{"corp.example"}, entries)), &events{}
	b := New(Config{FailureTime: time.Nanosecond}, live, Parts{Certificates: m}, log)
	of := func(uid string, change func(*x509.Certificate)) testenv.Cert {
		return ca.Issue(uid, func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, testenv.SIDExtension(sidOf(uid)))
			if change != nil {
				change(c)
			}
		})
	}
	with := func(c testenv.Cert) Conn {
		conn := client
		conn.State = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.TLS.Leaf}}
		return conn
	}
	revoked := of("alice", nil)
	ca.Revoke(revoked)
	for _, tt := range []struct {
		name    string
		cert    testenv.Cert
		authzid string
		offered bool
		want    error
		reason  string
	}{
		{"good", of("alice", nil), "", true, nil, ""},
		{"for oneself", of("alice", nil), "alice@corp.example", true, nil, ""},
		{"for another", of("alice", nil), "bob@corp.example", true, ErrAuthorization, "authzid"},
		{"disabled", of("dave", nil), "", true, ErrDisabled, "disabled"},
		{"shared mailbox", of("office", nil), "", true, ErrCredentials, "no-mailbox"},
		{"NUL", of("alice", nil), "a\x00b", true, ErrMalformed, "malformed"},
		{"revoked", revoked, "", true, ErrCredentials, "certificate-revoked"},
		{"nobody's", ca.Issue("alice@corp.example", nil), "", false, ErrMechanism, "certificate-unmapped"},
		{"expired", of("alice", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "", false, ErrMechanism, "certificate-expired"},
	} {
		log.lines = nil
		c := with(tt.cert)
		if got := slices.Contains(b.Mechanisms(c), "EXTERNAL"); got != tt.offered {
			t.Errorf("%s: offered %v", tt.name, got)
		}
		for _, responses := range [][][]byte{{[]byte(tt.authzid)}, {nil, []byte(tt.authzid)}} {
			_, id, err := say(t, b, c, "external", responses...)
			if envelope.StatusOf(err) != envelope.StatusOf(tt.want) && (err != nil || tt.want != nil) {
				t.Errorf("%s: %v", tt.name, err)
			}
			if tt.want == nil && (id == nil || id.Person != "corp:alice" || id.Proof != ProofCertificate || id.Until != tt.cert.TLS.Leaf.NotAfter) {
				t.Errorf("%s: %+v", tt.name, id)
			}
		}
		if line := strings.Join(log.lines, ""); tt.reason != "" && !strings.Contains(line, tt.reason) {
			t.Errorf("%s: %s", tt.name, line)
		}
	}
	if slices.Contains(b.Mechanisms(client), "EXTERNAL") {
		t.Error("offered without a certificate")
	}

	// Whether it was revoked nobody can say: that is no answer to the person.
	away := testenv.NewPeopleCA(t, pkix.Name{CommonName: "AWAY-CA"})
	away.Handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	if b.parts.Certificates, err = certificate.New(certificate.Config{CA: []string{away.CAFile}, Directories: []string{"corp"}}); err != nil {
		t.Fatal(err)
	}
	c := with(away.Issue("alice", func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{testenv.SIDExtension(sidOf("alice"))} }))
	log.lines = nil
	if _, _, err := say(t, b, c, "EXTERNAL", []byte{}); !envelope.StatusOf(err).IsTemporary() || !strings.Contains(log.lines[0], "reason=revocation") {
		t.Errorf("%v, %s", err, log.lines)
	}
}
