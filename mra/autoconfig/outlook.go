package autoconfig

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The name spaces of Autodiscover ([MS-OXDSCLI] §2.2.4).
const (
	outlookSchema  = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
	responseSchema = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
)

// maxRequest bounds the body of a question.
const maxRequest = 64 << 10

// outlookRequest is the question, whatever its name space: clients have several.
type outlookRequest struct {
	XMLName xml.Name `xml:"Autodiscover"`
	Request struct {
		EMailAddress string
		LegacyDN     string
		Accepts      string `xml:"AcceptableResponseSchema"`
	}
}

type outlookAnswer struct {
	XMLName  xml.Name `xml:"Autodiscover"`
	Space    string   `xml:"xmlns,attr"`
	Response any
}

type outlookResponse struct {
	XMLName xml.Name `xml:"Response"`
	Space   string   `xml:"xmlns,attr"`
	User    struct {
		DisplayName string
	}
	Account struct {
		AccountType string
		Action      string
		Protocol    []outlookProtocol
	}
}

type outlookProtocol struct {
	Type           string
	Server         string
	Port           int
	DomainRequired string
	LoginName      string
	SPA            string // "on" asks for NTLM or Kerberos alone
	SSL            string
	Encryption     string // overrides SSL where a client knows it: SSL, TLS
	AuthRequired   string
	UsePOPAuth     string `xml:",omitempty"`
	SMTPLast       string `xml:",omitempty"`
}

type outlookError struct {
	XMLName xml.Name `xml:"Response"`
	Error   struct {
		Time      string `xml:"Time,attr"`
		ID        string `xml:"Id,attr"`
		ErrorCode int
		Message   string
		DebugData string
	}
}

// outlook answers a question of Outlook. A browser that looks at the page gets the
// error that Exchange gives, by which people know that it is there.
func (s *Service) outlook(w http.ResponseWriter, r *http.Request) {
	var q outlookRequest
	err := xml.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&q)
	if err != nil || q.Request.EMailAddress == "" {
		s.outlookRefuse(w, 600, "Invalid Request")
		return
	}
	if accepts := q.Request.Accepts; accepts != "" && accepts != outlookSchema {
		s.outlookRefuse(w, 601, "Requested schema version not supported") // ActiveSync, which we do not speak
		return
	}
	acc, err := s.account(q.Request.EMailAddress, r.RemoteAddr)
	if err != nil {
		s.outlookRefuse(w, 500, "The email address can't be found.")
		return
	}
	var answer outlookResponse
	answer.Space = outlookSchema
	answer.User.DisplayName = acc.address.String()
	answer.Account.AccountType, answer.Account.Action = "email", "settings"
	for _, server := range s.config.Servers {
		p := outlookProtocol{
			Type: strings.ToUpper(server.Protocol), Server: s.config.Hostname, Port: server.Port, LoginName: acc.login,
			DomainRequired: "off", SPA: "off", SSL: "on", Encryption: "TLS", AuthRequired: "on",
		}
		if server.Implicit {
			p.Encryption = "SSL"
		}
		if server.Protocol == "submission" {
			p.Type, p.UsePOPAuth, p.SMTPLast = "SMTP", "off", "off"
		}
		answer.Account.Protocol = append(answer.Account.Protocol, p)
	}
	writeXML(w, outlookAnswer{Space: responseSchema, Response: answer})
}

// outlookRefuse answers with an error ([MS-OXDSCLI] §2.2.4.1.1.2).
func (s *Service) outlookRefuse(w http.ResponseWriter, code int, text string) {
	var e outlookError
	now := time.Now()
	e.Error.Time, e.Error.ID = now.Format("15:04:05.0000000"), fmt.Sprint(uint32(now.UnixNano()))
	e.Error.ErrorCode, e.Error.Message = code, text
	writeXML(w, outlookAnswer{Space: responseSchema, Response: e})
}

// outlookURL is where Autodiscover is for people of any domain: the name that the
// certificate has.
func (s *Service) outlookURL() string {
	host := s.config.Hostname
	if p := s.config.HTTPSPort; p != 0 && p != 443 {
		host = net.JoinHostPort(host, fmt.Sprint(p))
	}
	return (&url.URL{Scheme: "https", Host: host, Path: "/autodiscover/autodiscover.xml"}).String()
}

// outlookRedirect sends a client that asks http://autodiscover.DOMAIN to where the
// answer is; it asks its user before it goes on ([MS-OXDSCLI] §3.1.5.4).
func (s *Service) outlookRedirect(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, s.outlookURL(), http.StatusFound)
}

// outlookJSON answers the second version, in which a client asks where the first is.
func (s *Service) outlookJSON(w http.ResponseWriter, r *http.Request) {
	answer, code := map[string]string{"Protocol": "AutodiscoverV1", "Url": s.outlookURL()}, http.StatusOK
	if asked := query(r, "Protocol"); !strings.EqualFold(asked, "AutodiscoverV1") {
		code = http.StatusBadRequest
		answer = map[string]string{"ErrorCode": "InvalidProtocol", "ErrorMessage": "The given protocol value is invalid. Supported values are 'AutodiscoverV1'"}
		if asked == "" {
			answer = map[string]string{"ErrorCode": "MandatoryParameterMissing", "ErrorMessage": "A valid value must be provided for the query parameter 'Protocol'"}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // the client has left
}

// query returns a parameter, whatever the case of its name.
func query(r *http.Request, name string) string {
	for n, values := range r.URL.Query() {
		if strings.EqualFold(n, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}
