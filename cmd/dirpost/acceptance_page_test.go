//go:build acceptance

package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/auth/selfservice"
	"dirpost/internal/testenv"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// chromium is a browser without a window that finds the page under the server's name.
type chromium struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex // guards problems
	problems []string   // what the console has complained about
}

func newChromium(t *testing.T, s *system, host string, options ...chromedp.ExecAllocatorOption) *chromium {
	t.Helper()
	spki := sha256.Sum256(s.cert.TLS.Leaf.RawSubjectPublicKeyInfo)
	port := s.port("https")
	options = append(append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(testenv.Need(t, "chromium")), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("host-resolver-rules", "MAP "+host+" 127.0.0.1"),
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(spki[:]))), options...)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(cancel)
	c := &chromium{t: t, ctx: ctx, base: "https://" + host + ":" + port + selfservice.Root}
	chromedp.ListenTarget(ctx, func(ev any) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch ev := ev.(type) {
		case *log.EventEntryAdded:
			if ev.Entry.Level == log.LevelError && !strings.Contains(ev.Entry.Text, "the server responded with a status of 40") {
				c.problems = append(c.problems, ev.Entry.Text)
			}
		case *runtime.EventExceptionThrown:
			c.problems = append(c.problems, ev.ExceptionDetails.Error())
		}
	})
	c.do(log.Enable(), runtime.Enable())
	return c
}

func (c *chromium) do(actions ...chromedp.Action) {
	c.t.Helper()
	if err := chromedp.Run(c.ctx, actions...); err != nil {
		c.t.Fatal(err)
	}
}

// open opens a page, and checks what all pages have.
func (c *chromium) open(path string) {
	c.t.Helper()
	c.do(chromedp.Navigate(c.base + path))
	c.check()
}

// wants waits for a heading.
func (c *chromium) wants(title string) {
	c.t.Helper()
	c.do(chromedp.WaitVisible(fmt.Sprintf(`//h1[text()=%q]`, title)))
	c.check()
}

// readable says what is wrong with a page for who reads it on a phone, by keyboard or
// with a screen reader.
const readable = `(() => {
  const wrong = [];
  if (!document.documentElement.lang) wrong.push("no language");
  if (document.querySelectorAll("h1").length != 1 || !document.querySelector("main")) wrong.push("no heading or main part");
  if (!document.title) wrong.push("no title");
  if (document.documentElement.scrollWidth > window.innerWidth) wrong.push("wider than the screen: " + document.documentElement.scrollWidth);
  for (const e of document.querySelectorAll("input:not([type=hidden]), select"))
    if (!e.labels.length) wrong.push("no label: " + e.outerHTML);
  for (const e of document.querySelectorAll("button, a"))
    if (!(e.textContent.trim() || e.getAttribute("aria-label"))) wrong.push("no text: " + e.outerHTML);
  for (const e of document.querySelectorAll("img"))
    if (!e.alt) wrong.push("no alternative: " + e.outerHTML);
  for (const e of document.querySelectorAll("[tabindex]"))
    wrong.push("an order of its own: " + e.outerHTML);
  return location.pathname + ": " + wrong.join("; ");
})()`

func (c *chromium) check() {
	c.t.Helper()
	var wrong string
	c.do(chromedp.WaitReady("main"), chromedp.Evaluate(readable, &wrong))
	if !strings.HasSuffix(wrong, ": ") {
		c.t.Error(wrong)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.problems {
		c.t.Errorf("the browser complains: %s", p)
	}
	c.problems = nil
}

// TestAcceptancePage: a real browser, on the screen of a phone, by keyboard where it
// counts: login, a security key, the login with it, an app, all pages.
func TestAcceptancePage(t *testing.T) {
	s := newSystem(t, "")
	s.start()
	c := newChromium(t, s, "mail.corp.example")
	c.do(emulation.SetFocusEmulationEnabled(true), emulation.SetDeviceMetricsOverride(360, 740, 2, true), webauthn.Enable(),
		chromedp.ActionFunc(func(ctx context.Context) error {
			_, err := webauthn.AddVirtualAuthenticator(&webauthn.VirtualAuthenticatorOptions{
				Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportUsb, AutomaticPresenceSimulation: true,
			}).Do(ctx)
			return err
		}))
	login := func() {
		t.Helper()
		// The cursor is where it should be; Enter sends.
		c.do(chromedp.WaitVisible("#user"), chromedp.SendKeys("#user:focus", "bob\t"), chromedp.SendKeys("#password:focus", s.slapd.UserPassword+"\r"))
	}
	c.open("")
	c.wants("Log in")
	c.do(chromedp.SendKeys("#user:focus", "bob\twrong\r"), chromedp.WaitVisible("[role=alert]"))
	c.check()
	c.do(chromedp.Clear("#user"), chromedp.Focus("#user"))
	login()
	c.wants("Overview")
	for _, p := range []string{"password", "logins", "sessions", "factors", "confirm"} {
		c.open(p)
	}
	c.open("factors/key")
	c.do(chromedp.SendKeys("#name", "Blue key\r"))
	c.wants("Your recovery codes")
	c.open("factors")
	c.do(chromedp.WaitVisible(`//th[text()="Blue key"]`))
	c.open("factors/app")
	c.do(chromedp.WaitVisible("img"), chromedp.Click(`//button[text()="Log out"]`))
	c.wants("Log in")
	login()
	c.wants("Second factor")
	c.do(chromedp.Click(`//button[text()="Use security key"]`))
	c.wants("Overview")
}
