package gssapi

import (
	"bytes"
	"crypto"
	"crypto/md5"
	_ "crypto/sha256" // what certificates are hashed with
	_ "crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
)

// bindingHash is what a token carries of the channel that it is bound to: the hash of
// the structure of RFC 2744 §3.11 with no addresses (RFC 4121 §4.1.1.2).
func bindingHash(data []byte) []byte {
	h := md5.New()
	h.Write(make([]byte, 16)) // types and lengths of two addresses
	h.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(data))))
	h.Write(data)
	return h.Sum(nil)
}

// EndPoint is the binding to whoever has the key of cert, nil for a certificate that
// it is not defined for (RFC 5929 §4.1): one whose signature has no hash of its own.
// Windows and MIT Kerberos send this one.
func EndPoint(cert *x509.Certificate) []byte {
	var hash crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, // SHA-256 in the place of what is broken
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		hash = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	default:
		return nil
	}
	h := hash.New()
	h.Write(cert.Raw)
	return append([]byte("tls-server-end-point:"), h.Sum(nil)...)
}

// ChannelBindings are the bindings to a TLS connection that some client might send:
// its end point, which is the certificate that the client was shown, tls-exporter
// (RFC 9266), and tls-unique where the connection has one. nil for no connection, and
// where the certificate is not known: most clients bind to it.
func ChannelBindings(state *tls.ConnectionState, shown *x509.Certificate) [][]byte {
	if state == nil || shown == nil {
		return nil
	}
	var all [][]byte
	if b := EndPoint(shown); b != nil {
		all = append(all, b)
	}
	// RFC 9266 §4.2: with TLS 1.2 the extended master secret is needed, without which
	// Go exports nothing.
	if b, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32); err == nil {
		all = append(all, bytes.Join([][]byte{[]byte("tls-exporter:"), b}, nil))
	}
	if len(state.TLSUnique) > 0 {
		all = append(all, bytes.Join([][]byte{[]byte("tls-unique:"), state.TLSUnique}, nil))
	}
	return all
}
