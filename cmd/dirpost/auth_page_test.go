package main

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"dirpost/auth/selfservice"
)

// visitor is somebody's browser on the page of a system.
type visitor struct {
	s      *system
	client *http.Client
	last   string
}

func (s *system) visitor() *visitor {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: s.tls()}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &visitor{s: s, client: &http.Client{Transport: transport, Jar: jar}}
}

func (v *visitor) keep(res *http.Response, err error) string {
	v.s.t.Helper()
	if err != nil {
		v.s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		v.s.t.Fatal(err)
	}
	v.last = html.UnescapeString(string(b))
	return v.last
}

func (v *visitor) get(path string) string {
	v.s.t.Helper()
	return v.keep(v.client.Get("https://" + v.s.addr["https"] + path))
}

var formToken = regexp.MustCompile(`name="token" value="([^"]*)"`)

func (v *visitor) post(path string, fields ...string) string {
	v.s.t.Helper()
	form := url.Values{}
	if m := formToken.FindStringSubmatch(v.last); m != nil {
		form.Set("token", m[1])
	}
	for i := 0; i < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return v.keep(v.client.PostForm("https://"+v.s.addr["https"]+selfservice.Root+path, form))
}

// want checks that the last page says something.
func (v *visitor) want(words string) {
	v.s.t.Helper()
	if !strings.Contains(v.last, words) {
		v.s.t.Errorf("no %q in\n%s", words, v.last)
	}
}

// TestPage: people change their password on the page of a node, all that they have
// open is closed, they are told by mail, and see from where they have logged in.
func TestPage(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.change("notices = false", "notices = true")
	s.start()
	imap := s.login("bob")
	v := s.visitor()
	v.get("/")
	v.want("Log in")
	v.post("login", "user", "bob", "password", s.slapd.UserPassword)
	v.want("Logged in as bob@corp.example")
	v.get(selfservice.Root + "password")
	v.post("password", "old", s.slapd.UserPassword, "new", "better than demo", "again", "better than demo")
	v.want("Your password was changed")
	<-imap.Closed() // the server has said goodbye
	if _, err := s.tryLogin("bob"); err == nil {
		t.Error("the old password lets in")
	}
	s.slapd.UserPassword = "better than demo"
	mails := s.await("bob", "INBOX", 1)
	for _, want := range []string{"Subject: The password of your account was changed", "Auto-Submitted: auto-generated", "Return-Path: <>", "by a browser at 127.0.0.1"} {
		if !strings.Contains(strings.ReplaceAll(mails[0], "\r\n ", " "), want) {
			t.Errorf("no %q in\n%s", want, mails[0])
		}
	}
	v.post("login", "user", "bob@corp.example", "password", s.slapd.UserPassword)
	v.want("Logged in as bob@corp.example")
	command := func(want string, args ...string) {
		t.Helper()
		var out strings.Builder
		if code := run(t.Context(), append([]string{"dirpost", "--config", s.config}, args...), streams{nil, &out, &out}); code != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("%v: exit %d, %s", args, code, out.String())
		}
	}
	command("0 recovery codes", "auth", "second-factor", "list", "bob")
	command("had no second factor", "auth", "second-factor", "reset", "bob")
	command("were told", "mailbox", "logout", "bob")
	v.get(selfservice.Root)
	v.want("Log in")
}
