package autoconfig

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"
)

// clientConfig is Thunderbird's file.
type clientConfig struct {
	XMLName  xml.Name      `xml:"clientConfig"`
	Version  string        `xml:"version,attr"`
	Provider emailProvider `xml:"emailProvider"`
	OAuth    *oauthServer  `xml:"oAuth2,omitempty"`
}

// oauthServer is where a client gets a token. Thunderbird knows the issuers that are
// built into it and those of add-ons, and reads nothing of this; others do.
type oauthServer struct {
	Authorization string `xml:"authURL"`
	Token         string `xml:"tokenURL"`
	Issuer        string `xml:"issuer"`
	Scope         string `xml:"scope"`
	ClientID      string `xml:"clientID"`
}

type emailProvider struct {
	ID          string           `xml:"id,attr"`
	Domain      string           `xml:"domain"`
	DisplayName string           `xml:"displayName"`
	ShortName   string           `xml:"displayShortName"`
	Incoming    []incomingServer `xml:"incomingServer"`
	Outgoing    []outgoingServer `xml:"outgoingServer"`
}

type incomingServer struct {
	Type string `xml:"type,attr"`
	thunderbirdServer
}

type outgoingServer struct {
	Type string `xml:"type,attr"`
	thunderbirdServer
}

type thunderbirdServer struct {
	Hostname       string   `xml:"hostname"`
	Port           int      `xml:"port"`
	SocketType     string   `xml:"socketType"` // SSL, STARTTLS
	Username       string   `xml:"username"`
	Authentication []string `xml:"authentication"`
}

// thunderbird answers with config-v1.1.xml. Without an address in the question the
// client puts in its own.
func (s *Service) thunderbird(w http.ResponseWriter, r *http.Request) {
	address := r.URL.Query().Get("emailaddress")
	domain := ""
	if address == "" || strings.HasPrefix(address, "%") {
		// A client that asks for a domain: the host says which one.
		host, _, _ := strings.Cut(r.Host, ":")
		domain = strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(host), "autoconfig."), "www."))
		address = "x@" + domain
	}
	acc, err := s.account(address, r.RemoteAddr)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	if domain != "" {
		acc.login = "%EMAILADDRESS%"
	}
	c := clientConfig{Version: "1.1", Provider: emailProvider{
		ID: acc.address.Domain, Domain: acc.address.Domain, DisplayName: s.config.Organisation, ShortName: s.config.Organisation,
	}}
	for _, server := range s.config.Servers {
		t := thunderbirdServer{s.config.Hostname, server.Port, "STARTTLS", acc.login, s.thunderbirdMethods(&acc, server.Protocol)}
		if server.Implicit {
			t.SocketType = "SSL"
		}
		if server.Protocol == "submission" {
			c.Provider.Outgoing = append(c.Provider.Outgoing, outgoingServer{"smtp", t})
		} else {
			c.Provider.Incoming = append(c.Provider.Incoming, incomingServer{server.Protocol, t})
		}
	}
	c.OAuth = s.oauthServer(&acc)
	writeXML(w, c)
}

// oauthServer is where to get a token, nil where none is taken.
func (s *Service) oauthServer(acc *account) *oauthServer {
	o := s.config.OAuth
	if o.IsZero() || !acc.may("imap", tokenMechanisms...) && !acc.may("pop3", tokenMechanisms...) {
		return nil
	}
	issuer := s.config.Hostname
	if u, err := url.Parse(o.Authorization); err == nil {
		issuer = u.Hostname()
	}
	return &oauthServer{o.Authorization, o.Token, issuer, strings.Join(o.Scope, " "), o.ClientID}
}

// tokenMechanisms take a token of an issuer.
var tokenMechanisms = []string{"XOAUTH2", "OAUTHBEARER"}

// thunderbirdMethods are the ways to log in, in the order of the configuration. A
// client passes over what it does not know, such as a token of an issuer with which it
// is not registered, and takes the first one of the rest.
func (s *Service) thunderbirdMethods(a *account, protocol string) (methods []string) {
	for _, m := range s.config.Methods {
		name, mechanisms := "", []string(nil)
		switch m {
		case Password:
			name, mechanisms = "password-cleartext", []string{"PLAIN", "LOGIN"} // within TLS
		case Ticket:
			name, mechanisms = "GSSAPI", []string{"GSSAPI"}
		case Token:
			name, mechanisms = "OAuth2", tokenMechanisms
		case Certificate:
			name, mechanisms = "TLS-client-cert", []string{"EXTERNAL"}
		}
		if a.may(protocol, mechanisms...) {
			methods = append(methods, name)
		}
	}
	return methods
}
