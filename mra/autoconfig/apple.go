package autoconfig

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/xml"
	"fmt"
	"net/http"

	"github.com/smallstep/pkcs7"
)

// apple answers with a profile that iOS and macOS install: the account, to which the
// device asks the password.
func (s *Service) apple(w http.ResponseWriter, r *http.Request) {
	acc, err := s.account(query(r, "emailaddress"), r.RemoteAddr)
	if err != nil {
		http.Error(w, "Add ?emailaddress= and an address of this server.", http.StatusNotFound)
		return
	}
	text, ok := s.profile(&acc, query(r, "name"))
	if !ok {
		http.Error(w, "This server has no IMAP for clients, or takes no mail from them.", http.StatusNotFound)
		return
	}
	signed, err := s.sign(text)
	if err != nil {
		http.Error(w, "The profile cannot be signed.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-apple-aspen-config")
	w.Header().Set("Content-Disposition", `attachment; filename="mail.mobileconfig"`)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(signed) // the client has left
}

// sign wraps a profile in a signature by the server's certificate (RFC 5652 §5).
func (s *Service) sign(text []byte) ([]byte, error) {
	cert := s.deps.Certificate()
	var parents []*x509.Certificate
	for _, der := range cert.Certificate[1:] {
		parent, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		parents = append(parents, parent)
	}
	data, err := pkcs7.NewSignedData(text)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	data.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := data.AddSignerChain(cert.Leaf, cert.PrivateKey, parents, pkcs7.SignerInfoConfig{}); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return data.Finish()
}

// profile writes a configuration profile; false where an account cannot be had.
func (s *Service) profile(acc *account, name string) ([]byte, bool) {
	in, out := s.first("imap"), s.first("submission")
	if in == nil || out == nil {
		return nil, false
	}
	address := acc.address.String()
	id := s.config.Hostname + ".mail"
	account := dict{
		{"EmailAccountDescription", s.config.Organisation},
		{"EmailAccountType", "EmailTypeIMAP"},
		{"EmailAddress", address},
		{"IncomingMailServerAuthentication", "EmailAuthPassword"},
		{"IncomingMailServerHostName", s.config.Hostname},
		{"IncomingMailServerPortNumber", in.Port},
		{"IncomingMailServerUseSSL", true},
		{"IncomingMailServerUsername", acc.login},
		{"OutgoingMailServerAuthentication", "EmailAuthPassword"},
		{"OutgoingMailServerHostName", s.config.Hostname},
		{"OutgoingMailServerPortNumber", out.Port},
		{"OutgoingMailServerUseSSL", true},
		{"OutgoingMailServerUsername", acc.login},
		{"OutgoingPasswordSameAsIncomingPassword", true},
		{"PayloadDisplayName", "Mail for " + address},
		{"PayloadIdentifier", id + ".account"},
		{"PayloadType", "com.apple.mail.managed"},
		{"PayloadUUID", uuid("account", id, address)},
		{"PayloadVersion", 1},
	}
	if name != "" {
		account = append(account, pair{"EmailAccountName", name})
	}
	profile := dict{
		{"PayloadContent", array{account}},
		{"PayloadDescription", "Sets up mail for " + address + "."},
		{"PayloadDisplayName", s.config.Organisation + " mail"},
		{"PayloadIdentifier", id},
		{"PayloadOrganization", s.config.Organisation},
		{"PayloadRemovalDisallowed", false},
		{"PayloadType", "Configuration"},
		{"PayloadUUID", uuid("profile", id, address)},
		{"PayloadVersion", 1},
	}
	var b bytes.Buffer
	b.WriteString(xml.Header + `<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">` + "\n<plist version=\"1.0\">\n")
	writePlist(&b, profile)
	b.WriteString("</plist>\n")
	return b.Bytes(), true
}

// first is the server of a protocol that is preferred.
func (s *Service) first(protocol string) *Server {
	for i := range s.config.Servers {
		if s.config.Servers[i].Protocol == protocol {
			return &s.config.Servers[i]
		}
	}
	return nil
}

// uuid is the same for the same account, so that a profile that is installed again
// takes the place of the old one (RFC 9562 §5.8).
func uuid(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	u := h.Sum(nil)[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// A property list, in the order that is written.
type (
	dict []pair
	pair struct {
		key   string
		value any // string, int, bool, dict or array
	}
	array []any
)

// writePlist writes v as element of a property list.
func writePlist(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case dict:
		b.WriteString("<dict>\n")
		for _, p := range v {
			b.WriteString("<key>")
			_ = xml.EscapeText(b, []byte(p.key)) // a Buffer takes everything
			b.WriteString("</key>")
			writePlist(b, p.value)
		}
		b.WriteString("</dict>\n")
	case array:
		b.WriteString("<array>\n")
		for _, e := range v {
			writePlist(b, e)
		}
		b.WriteString("</array>\n")
	case string:
		b.WriteString("<string>")
		_ = xml.EscapeText(b, []byte(v))
		b.WriteString("</string>\n")
	case int:
		fmt.Fprintf(b, "<integer>%d</integer>\n", v)
	case bool:
		fmt.Fprintf(b, "<%t/>\n", v)
	}
}
