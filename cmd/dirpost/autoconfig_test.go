package main

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dirpost/internal/testenv"
)

// ask sends a request to the web listener "http" or "https" and returns the answer.
func (s *system) ask(listener, method, path, body string, header ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, listener+"://"+strings.Replace(s.addr[listener], "127.0.0.1", "localhost", 1)+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: s.tls(), DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer, string(text)
}

// portNames are the ports of a system's listeners by their names: they are others in
// each test.
func (s *system) portNames(text string) string {
	for name, addr := range s.addr {
		if _, port, err := net.SplitHostPort(addr); err == nil {
			text = strings.ReplaceAll(text, port, "{"+name+"}")
		}
	}
	return text
}

// What each client is told, question by question.
func TestAutoconfig(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	s.eventually("the directory is read", func() bool { return s.node.live.Snapshot().Ready() })
	outlook := func(address string) string {
		return `<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"><Request><EMailAddress>` +
			address + `</EMailAddress><AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema></Request></Autodiscover>`
	}
	for _, q := range []struct {
		name, listener, method, path, body string
		header                             []string
		code                               int
		golden                             string // the answer, "" for one without interest
	}{
		{"Thunderbird", "https", "GET", "/mail/config-v1.1.xml?emailaddress=alice%40corp.example", "", nil, 200, "thunderbird.xml"},
		{"Thunderbird at the domain", "https", "GET", "/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=alice%40corp.example", "", nil, 200, "thunderbird.xml"},
		{"Thunderbird in clear", "http", "GET", "/mail/config-v1.1.xml?emailaddress=alice%40corp.example", "", nil, 200, "thunderbird.xml"},
		{"Thunderbird in clear at the domain", "http", "GET", "/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=alice%40corp.example", "", nil, 200, "thunderbird.xml"},
		{"an alias, which is no login name", "https", "GET", "/mail/config-v1.1.xml?emailaddress=a.example%40corp.example", "", nil, 200, "thunderbird.xml"},
		{"nobody", "https", "GET", "/mail/config-v1.1.xml?emailaddress=nobody%40corp.example", "", nil, 200, "thunderbird-nobody.xml"},
		{"without an address", "https", "GET", "/mail/config-v1.1.xml", "", []string{"Host", "autoconfig.corp.example"}, 200, "thunderbird-domain.xml"},
		{"a domain of others", "https", "GET", "/mail/config-v1.1.xml?emailaddress=alice%40example.net", "", nil, 404, ""},
		{"no address", "https", "GET", "/mail/config-v1.1.xml?emailaddress=%3Cx%3E", "", nil, 404, ""},

		{"Outlook", "https", "POST", "/autodiscover/autodiscover.xml", outlook("alice@corp.example"), []string{"Content-Type", "text/xml"}, 200, "outlook.xml"},
		{"Outlook with capitals", "https", "POST", "/Autodiscover/Autodiscover.xml", outlook("Alice@Corp.Example"), nil, 200, ""},
		{"Outlook, an alias", "https", "POST", "/autodiscover/autodiscover.xml", outlook("a.example@corp.example"), nil, 200, "outlook-alias.xml"},
		{"Outlook, others", "https", "POST", "/autodiscover/autodiscover.xml", outlook("alice@example.net"), nil, 200, "outlook-unknown.xml"},
		{"ActiveSync", "https", "POST", "/autodiscover/autodiscover.xml", strings.ReplaceAll(outlook("alice@corp.example"), "outlook/responseschema/2006a", "mobilesync/responseschema/2006"), nil, 200, "outlook-schema.xml"},
		{"a browser", "https", "GET", "/autodiscover/autodiscover.xml", "", nil, 200, "outlook-invalid.xml"},
		{"no XML", "https", "POST", "/autodiscover/autodiscover.xml", "<Autodiscover><Request>", nil, 200, "outlook-invalid.xml"},
		{"too much", "https", "POST", "/autodiscover/autodiscover.xml", "<!--" + strings.Repeat("x", 70_000) + "-->" + outlook("alice@corp.example"), nil, 200, "outlook-invalid.xml"},
		{"Outlook in clear", "http", "GET", "/autodiscover/autodiscover.xml", "", []string{"Host", "autodiscover.corp.example"}, 302, ""},
		{"Outlook's second version", "https", "GET", "/autodiscover/autodiscover.json?Email=alice%40corp.example&Protocol=Autodiscoverv1&RedirectCount=1", "", nil, 200, "outlook.json"},
		{"in its later form", "https", "GET", "/autodiscover/autodiscover.json/v1.0/alice%40corp.example?Protocol=AutodiscoverV1", "", nil, 200, "outlook.json"},
		{"for ActiveSync", "https", "GET", "/autodiscover/autodiscover.json?Email=alice%40corp.example&Protocol=ActiveSync", "", nil, 400, "outlook-protocol.json"},
		{"for nothing", "https", "GET", "/autodiscover/autodiscover.json?Email=alice%40corp.example", "", nil, 400, "outlook-missing.json"},

		{"Apple without an address", "https", "GET", "/apple.mobileconfig", "", nil, 404, ""},
		{"Apple in clear", "http", "GET", "/apple.mobileconfig?emailaddress=alice%40corp.example", "", nil, 308, ""},
	} {
		answer, text := s.ask(q.listener, q.method, q.path, q.body, q.header...)
		if answer.StatusCode != q.code {
			t.Errorf("%s: %s, want %d", q.name, answer.Status, q.code)
			continue
		}
		if q.golden != "" {
			s.golden(q.name, q.golden, masked(t, text))
		}
		if location := s.portNames(answer.Header.Get("Location")); q.code == 302 && location != "https://mail.corp.example:{https}/autodiscover/autodiscover.xml" {
			t.Errorf("%s: sent to %s", q.name, location)
		}
	}
	s.profile(t)
}

// What is told about logins follows the directory and the configuration: a name that
// the directory takes for that person and nobody else, the ways to log in in the order
// that the administrator wants, and where to get a token.
func TestAutoconfigLogins(t *testing.T) {
	t.Parallel()
	person := func(uid, mail, alias string) string {
		text := fmt.Sprintf("dn: uid=%s,ou=people,dc=corp,dc=example\nobjectClass: inetOrgPerson\nobjectClass: dirpostMailbox\nuid: %[1]s\ncn: %[1]s\nsn: x\nmail: %s\n", uid, mail)
		if alias != "" {
			text += "dirpostAlias: " + alias + "\n"
		}
		return text + "\n"
	}
	// The addresses of heidi and kim are login names of somebody else, too, and kim has a
	// name like a userPrincipalName; the alias of ivan is the login name of judy.
	people := "\n" + person("heidi", "heidi@corp.example", "") + person("heidi@corp.example", "heidi.old@corp.example", "") +
		strings.TrimSuffix(person("kim", "kim@corp.example", ""), "\n") + "uid: kim@ad.corp.example\n\n" + person("kim@corp.example", "kim.old@corp.example", "") +
		person("ivan", "ivan@corp.example", "judy@elsewhere.corp.example") + person("judy@elsewhere.corp.example", "judy@corp.example", "")
	issuer := testenv.NewIssuer(t)
	s := newSystemIn(t, databaseURL(t), "", testenv.SlapdWith(t, "", people))
	s.change("\n[auth]\n", fmt.Sprintf(`
[autoconfig]
organisation = "Example & Sons"
methods = ["token", "certificate", "password"]
[autoconfig.oauth]
authorization_endpoint = "https://id.corp.example/authorize"
token_endpoint = "https://id.corp.example/token"
client_id = "mail"
scope = ["mail", "offline_access"]
[auth]
oauth = [{ issuer = %q, audience = ["dirpost"], ca = %q }]
`, issuer.URL, issuer.CAFile))
	s.change(`local = ["corp.example"]`, `local = ["corp.example", "elsewhere.corp.example"]`)
	s.confirmAll("corp.example", "elsewhere.corp.example")
	s.start()
	s.eventually("the directory is read", func() bool { return s.node.live.Snapshot().Ready() })
	ask := func(address string) string {
		t.Helper()
		_, text := s.ask("https", "GET", "/mail/config-v1.1.xml?emailaddress="+url.QueryEscape(address), "")
		return text
	}
	for address, want := range map[string]string{
		"alice@corp.example": "alice@corp.example", "a.example@corp.example": "alice@corp.example", "HEIDI@corp.example": "heidi", "kim@corp.example": "kim@ad.corp.example",
		"judy@elsewhere.corp.example": "ivan@corp.example", "judy@corp.example": "judy@corp.example",
	} {
		text := ask(address)
		if n := strings.Count(text, "<username>"+want+"</username>"); n != strings.Count(text, "<username>") || n == 0 {
			t.Errorf("%s is told another login name than %s:\n%s", address, want, text)
		}
	}
	s.golden("Thunderbird, of an issuer", "thunderbird-token.xml", ask("alice@corp.example"))

	answer, file := s.ask("https", "GET", "/thunderbird.xpi", "")
	if got := answer.Header.Get("Content-Type"); answer.StatusCode != 200 || got != "application/x-xpinstall" {
		t.Fatalf("add-on: %s, %s", answer.Status, got)
	}
	z, err := zip.NewReader(strings.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := fs.ReadFile(z, "manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	s.golden("Thunderbird's add-on", "thunderbird-addon.json", string(manifest))
}

// profile looks at Apple's with the tools that others have for it.
func (s *system) profile(t *testing.T) {
	t.Helper()
	answer, signed := s.ask("https", "GET", "/apple.mobileconfig?emailaddress="+url.QueryEscape("alice@corp.example")+"&name="+url.QueryEscape("Alice <& Example"), "")
	if got := answer.Header.Get("Content-Type"); answer.StatusCode != 200 || got != "application/x-apple-aspen-config" {
		t.Fatalf("profile: %s, %s", answer.Status, got)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "profile")
	if err := os.WriteFile(file, []byte(signed), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := exec.Command("openssl", "cms", "-verify", "-inform", "DER", "-in", file, "-CAfile", s.cert.CAFile, "-purpose", "any", "-binary")
	var errs bytes.Buffer
	verify.Stderr = &errs
	text, err := verify.Output()
	if err != nil {
		t.Fatalf("openssl does not believe the signature: %v\n%s", err, errs.String())
	}
	read := exec.Command("python3", "-c", `
import plistlib, sys, json
print(json.dumps(plistlib.loads(sys.stdin.buffer.read()), indent=1, sort_keys=True))`)
	read.Stdin = bytes.NewReader(text)
	read.Stderr = &errs
	got, err := read.Output()
	if err != nil {
		t.Fatalf("Python does not read the profile: %v\n%s%s", err, errs.String(), text)
	}
	s.golden("profile", "apple.json", string(got))
}

// masked is an answer without what is another each time.
func masked(t *testing.T, text string) string {
	t.Helper()
	if strings.HasPrefix(text, "<?xml") {
		if err := xml.Unmarshal([]byte(text), new(struct{})); err != nil {
			t.Errorf("the answer is no XML: %v\n%s", err, text)
		}
	}
	if before, rest, ok := strings.Cut(text, ` Time="`); ok {
		_, after, _ := strings.Cut(rest, ">")
		return before + ">" + after
	}
	return text
}

// golden compares an answer with a file, of which -update makes a new one.
func (s *system) golden(what, name, got string) {
	s.t.Helper()
	path := filepath.Join("testdata", "autoconfig", name)
	got = s.portNames(got)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if got != string(want) {
		s.t.Errorf("%s is told\n%s\nwant (%s)\n%s", what, got, path, want)
	}
}
