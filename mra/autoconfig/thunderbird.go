package autoconfig

import (
	"encoding/xml"
	"net/http"
	"strings"
)

// clientConfig is Thunderbird's file.
type clientConfig struct {
	XMLName  xml.Name      `xml:"clientConfig"`
	Version  string        `xml:"version,attr"`
	Provider emailProvider `xml:"emailProvider"`
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
		t := thunderbirdServer{s.config.Hostname, server.Port, "STARTTLS", acc.login, acc.thunderbirdMethods(server.Protocol)}
		if server.Implicit {
			t.SocketType = "SSL"
		}
		if server.Protocol == "submission" {
			c.Provider.Outgoing = append(c.Provider.Outgoing, outgoingServer{"smtp", t})
		} else {
			c.Provider.Incoming = append(c.Provider.Incoming, incomingServer{server.Protocol, t})
		}
	}
	writeXML(w, c)
}

// thunderbirdMethods are the ways to log in, the one first that works for everybody:
// the client takes the first it has, and does not come back for another.
func (a *account) thunderbirdMethods(protocol string) (methods []string) {
	for _, m := range []struct {
		name       string
		mechanisms []string
	}{
		{"password-cleartext", []string{"PLAIN", "LOGIN"}}, // within TLS
		{"GSSAPI", []string{"GSSAPI"}},
		{"OAuth2", []string{"XOAUTH2", "OAUTHBEARER"}},
		{"TLS-client-cert", []string{"EXTERNAL"}},
	} {
		if a.may(protocol, m.mechanisms...) {
			methods = append(methods, m.name)
		}
	}
	return methods
}
