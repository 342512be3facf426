//go:build acceptance

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// Who has a ticket of the domain is on the page without typing anything: Chromium with
// the policies that docs/self-service.md names.
func TestAcceptancePageTicket(t *testing.T) {
	s := newSSO(t, "tess")
	s.start()
	s.eventually("tess is known", func() bool { return s.node.live.Snapshot().ByLogin("tess") != nil })
	s.kinit()
	write := func(file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(file) })
	}
	// A browser without a window is in private mode, where tickets are shown only if a
	// policy says so; and its name for the server is mapped, which it would follow.
	write("/etc/chromium/policies/managed/dirpost-test.json",
		`{"AuthServerAllowlist": "`+s.host+`", "AmbientAuthenticationInPrivateModesEnabled": 3, "DisableAuthNegotiateCnameLookup": true}`)
	// On Linux it can load Kerberos once it has been restarted after the first page that
	// asks for it, as this says.
	data := t.TempDir()
	write(filepath.Join(data, "Local State"), `{"net": {"received_http_auth_negotiate_headers": true}}`)
	c := newChromium(t, s.system, s.host, chromedp.Flag("headless", "new"), chromedp.UserDataDir(data), chromedp.Env(s.env...))
	var text string
	c.do(chromedp.Navigate(c.base), chromedp.WaitReady("main"), chromedp.Text("body", &text))
	if !strings.Contains(text, "Hello tess.") {
		t.Errorf("with a ticket the browser shows\n%s", text)
	}
}
