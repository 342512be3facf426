package selfservice

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// app is an authenticator app. Its codes count from when it was made, so that a step
// that begins underway changes nothing.
type app struct {
	secret []byte
	step   int64
}

// newApp reads the secret of the page that enrols.
func newApp(t *testing.T, b *browser) app {
	t.Helper()
	secret, err := base32.StdEncoding.DecodeString(strings.ReplaceAll(b.find(`id="secret">([^<]*)<`), " ", ""))
	if err != nil || len(secret) != 20 {
		t.Fatalf("secret %x, %v:\n%s", secret, err, b.page)
	}
	return app{secret, b.c.db.Now().Unix() / 30}
}

// code is what the app shows some steps after it was made.
func (a app) code(ahead int64) string {
	h := hmac.New(sha1.New, a.secret)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(a.step+ahead)))
	sum := h.Sum(nil)
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff%1_000_000)
}

var recovery = regexp.MustCompile(`<code>([A-Z2-7]{4}(?:-[A-Z2-7]{4}){3})</code>`)

func TestSecondFactorByApp(t *testing.T) {
	t.Parallel()
	c, s := slapdCorp(t)
	b := c.browser()
	b.login("alice", s.UserPassword).want(200, "", "Hello")
	b.get("factors").want(200, "factors", say("factors.none"))
	b.get("factors/app")
	a := newApp(t, b)
	token := b.page
	b.get("factors/app.png")
	if b.code != 200 || b.head.Get("Content-Type") != "image/png" || !strings.HasPrefix(b.page, "\x89PNG") {
		t.Errorf("picture: %d %s", b.code, b.head.Get("Content-Type"))
	}
	b.page = token
	b.post("factors/app", "code", "000000", "name", "My phone").want(403, "factors/app", say("app.wrong"))
	if again := newApp(t, b); string(again.secret) != string(a.secret) {
		t.Error("a wrong code has changed the secret")
	}
	b.post("factors/app", "code", a.code(0), "name", `<b>My</b> phone`).want(200, "factors/app", say("codes.text"))
	codes := recovery.FindAllStringSubmatch(b.page, -1)
	if len(codes) != 10 {
		t.Fatalf("%d recovery codes:\n%s", len(codes), b.page)
	}
	b.get("factors").want(200, "factors", `<b>My</b> phone`)
	if strings.Contains(b.page, "<b>My") || strings.Contains(b.page, "factors/app") {
		t.Errorf("the name as it was, or a second app:\n%s", b.page)
	}
	// Another session, from before, has more power only with the factor.
	o := c.browser()
	o.login("alice", s.UserPassword).want(200, "second?to=", say("second.text"))
	for _, path := range []string{"", "password", "factors", "factors/app", "sessions", "confirm"} {
		o.get(path).want(200, "second", "")
	}
	o.post("password", "old", s.UserPassword, "new", "stolen", "again", "stolen").want(200, "second", "")
	o.post("second", "code", "").want(403, "second", say("second.wrong"))
	o.post("second", "code", a.code(0)).want(403, "second", say("second.wrong")) // used at the enrolment
	o.post("second", "code", a.code(3)).want(403, "second", say("second.wrong"))
	half := o.cookieOf()
	used := a.code(1)
	o.post("second", "code", used[:3]+" "+used[3:]).want(200, "", "Hello")
	if o.cookieOf() == half {
		t.Error("the session was not made anew")
	}
	// None is taken twice, and recovery codes are good for once.
	o.post("logout")
	o.login("alice", s.UserPassword)
	o.post("second", "code", used).want(403, "second", say("second.wrong"))
	o.post("second", "code", strings.ToLower(strings.ReplaceAll(codes[0][1], "-", " "))).want(200, "", "Hello")
	o.get("factors").want(200, "factors", say("factors.left", "9"))
	o.post("logout")
	o.login("alice", s.UserPassword)
	o.post("second", "code", codes[0][1]).want(403, "second", say("second.wrong"))
	// Guessing ends.
	for range 10 {
		o.post("second", "code", "123456")
	}
	o.want(403, "second", say("second.many"))
	o.post("second", "code", codes[1][1]).want(403, "second", say("second.many"))
	if !c.events.has("second factor added") || !c.events.has("second factor refused") {
		t.Error("no events")
	}
	// Taking it away.
	b.get("factors").post("factors/remove", "id", "1").want(200, "factors", "")
	b.post("factors/remove", "id", b.find(`name="id" value="(\d+)"`)).want(200, "factors?done=removed", say("factors.none"))
	c.browser().login("alice", s.UserPassword).want(200, "", "Hello")
}

// What has power asks again for the password after some time, and for the second
// factor, and goes on where the person was.
func TestShowAgain(t *testing.T) {
	t.Parallel()
	c, s := slapdCorp(t)
	b := c.browser()
	b.login("alice", s.UserPassword)
	b.get("factors/app")
	a := newApp(t, b)
	b.post("factors/app", "code", a.code(-1), "name", "phone").want(200, "factors/app", say("codes.text"))
	codes := recovery.FindAllStringSubmatch(b.page, -1)
	later := func(what string) {
		t.Helper()
		if _, err := c.db.Exec(t.Context(), 0, "update page_session set "+what+" = now() - interval '11 minutes'"); err != nil {
			t.Fatal(err)
		}
	}
	later("proved_at")
	b.get("factors").want(200, "factors", "")
	b.get("password").want(200, "password", "")
	b.get("factors/key").want(200, "confirm?to=factors/key", say("confirm.text"))
	b.post("confirm", "to", "factors/key", "password", "wrong").want(403, "confirm", say("login.refused"))
	b.post("confirm", "to", "factors/key", "password", s.UserPassword).want(200, "second?to=factors/key", say("second.text"))
	b.post("second", "to", "factors/key", "code", a.code(0)).want(200, "factors/key", say("key.text"))

	later("factor_at")
	b.get("password").want(200, "second?to=password", say("second.text"))
	b.post("second", "to", "password", "code", codes[0][1]).want(200, "password", say("password.text"))
	later("factor_at")
	b.post("password", "old", s.UserPassword, "new", "stolen", "again", "stolen").want(200, "second?to=password", "")
	b.post("second", "to", "password", "code", a.code(1)).want(200, "password", "")
	b.post("password", "old", s.UserPassword, "new", "mine", "again", "mine").want(200, "login?done=password", "")
}
