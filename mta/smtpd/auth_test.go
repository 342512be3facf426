package smtpd

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"testing"

	"dirpost/internal/testenv"
	"dirpost/internal/tlsconf"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// The SASL bridge learns of TLS what channel bindings are made of, by STARTTLS
// and by implicit TLS.
func TestAuthConn(t *testing.T) {
	t.Parallel()
	for _, implicit := range []bool{false, true} {
		s := newServer(t, MSA, func(c *Config, d *Deps) {
			cert := testenv.Certificate(t, "mx.corp.example")
			store, err := tlsconf.Open(tlsconf.Config{Pairs: []tlsconf.Pair{{CertFile: cert.CertFile, KeyFile: cert.KeyFile}}}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			c.ImplicitTLS, d.TLS = implicit, store.Config()
		})
		dial := smtp.DialStartTLS
		if implicit {
			dial = smtp.DialTLS
		}
		config := s.clientTLS()
		c, err := dial(s.listen(t), config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Auth(sasl.NewPlainClient("", "alice", "secret")); err != nil {
			t.Fatal(err)
		}
		theirs, ok := c.TLSConnectionState()
		s.gate.mu.Lock()
		a := s.gate.conn
		s.gate.mu.Unlock()
		if !ok || !a.TLS || a.State == nil || a.Certificate == nil || !a.Certificate.Equal(theirs.PeerCertificates[0]) {
			t.Fatalf("%+v", a)
		}
		// RFC 9266 §3: tls-exporter.
		const label = "EXPORTER-Channel-Binding"
		ours, err1 := a.State.ExportKeyingMaterial(label, nil, 32)
		his, err2 := theirs.ExportKeyingMaterial(label, nil, 32)
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(ours, his) {
			t.Errorf("the channel binding differs: %v", err)
		}
	}
	// In clear there is nothing.
	srv, client := net.Pipe()
	defer client.Close()
	c := newConn(newServer(t, MSA, nil).Server, srv)
	defer c.nc.Close()
	if a := c.authConn(); a.TLS || a.State != nil || a.Certificate != nil {
		t.Errorf("%+v", a)
	}
}
