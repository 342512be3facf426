package selfservice

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"dirpost/auth"
	"dirpost/auth/notice"
	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/web"
)

// Root is where the site is mounted.
const Root = "/account/"

// maxForm bounds a form, in octets.
const maxForm = 32 << 10

//go:embed pages
var pagesFS embed.FS

// Site is the site. It is an http.Handler for what lies below Root.
type Site struct {
	cfg   Config
	deps  Deps
	mux   *http.ServeMux
	pages map[string]*template.Template
	cross *http.CrossOriginProtection
}

// New returns the site.
func New(cfg Config, deps Deps) (*Site, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Site{cfg: cfg.withDefaults(), deps: deps, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection()}
	var err error
	if s.pages, err = parsePages(); err != nil {
		return nil, err
	}
	for _, r := range routes {
		s.mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) { s.serve(w, req, r) })
	}
	files := []string{"style.css", "key.js"}
	for _, name := range files {
		s.mux.HandleFunc("GET "+Root+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=3600")
			http.ServeFileFS(w, r, pagesFS, "pages/"+name)
		})
	}
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// need is who may use a page.
type need int

const (
	anybody need = iota
	halfway      // the password was right, and a second factor is still to be shown
	member       // logged in
	shown        // logged in, with a second factor shown lately where there is one
	fresh        // that, and the password lately
)

// route is one page, or one form.
type route struct {
	pattern string
	need    need
	run     func(*call) error
}

// routes are all pages. What changes anything is a POST.
var routes = []route{
	{"GET " + Root + "{$}", member, (*call).home},
	{"GET " + Root + "login", anybody, (*call).loginForm},
	{"POST " + Root + "login", anybody, (*call).login},
	{"POST " + Root + "expired", anybody, (*call).changeExpired},
	{"POST " + Root + "logout", halfway, (*call).logout},
	{"GET " + Root + "second", halfway, (*call).secondForm},
	{"POST " + Root + "second", halfway, (*call).second},
	{"GET " + Root + "confirm", member, (*call).confirmForm},
	{"POST " + Root + "confirm", member, (*call).confirm},
	{"GET " + Root + "password", shown, (*call).passwordForm},
	{"POST " + Root + "password", shown, (*call).changePassword},
	{"GET " + Root + "sessions", member, (*call).sessions},
	{"POST " + Root + "sessions", member, (*call).logOutEverywhere},
	{"POST " + Root + "sessions/end", member, (*call).endSession},
	{"GET " + Root + "apps", member, (*call).appPasswords},
	{"POST " + Root + "apps", fresh, (*call).newAppPassword},
	{"POST " + Root + "apps/revoke", member, (*call).revokeAppPassword},
	{"GET " + Root + "logins", member, (*call).logins},
	{"GET " + Root + "factors", member, (*call).factors},
	{"GET " + Root + "factors/app", fresh, (*call).appForm},
	{"GET " + Root + "factors/app.png", fresh, (*call).appPicture},
	{"POST " + Root + "factors/app", fresh, (*call).addApp},
	{"GET " + Root + "factors/key", fresh, (*call).keyForm},
	{"POST " + Root + "factors/key", fresh, (*call).addKey},
	{"POST " + Root + "factors/codes", fresh, (*call).newCodes},
	{"POST " + Root + "factors/remove", fresh, (*call).removeFactor},
}

// call is one request.
type call struct {
	site  *Site
	w     http.ResponseWriter
	r     *http.Request
	conn  auth.Conn
	log   *slog.Logger
	route route

	s *session         // nil: not logged in
	e *directory.Entry // of s
}

// serve answers one request.
func (s *Site) serve(w http.ResponseWriter, r *http.Request, route route) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	var id [8]byte
	rand.Read(id[:])
	c := &call{site: s, w: w, r: r, route: route, conn: auth.Conn{Protocol: "http", TLS: r.TLS != nil, State: r.TLS, Certificate: web.Shown(r), Session: hex.EncodeToString(id[:]), Device: device(r), Negotiation: web.OfConn[auth.Negotiation](r)}}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.conn.Client = ap.Addr().Unmap()
	}
	c.log = s.deps.Log.With("session", c.conn.Session, "client", c.conn.Client.String())
	defer func() {
		if p := recover(); p != nil {
			c.fail(fmt.Errorf("panic: %v", p))
		}
	}()
	if err := c.answer(); err != nil {
		c.fail(err)
	}
}

// answer checks what holds for all pages, and runs the page.
func (c *call) answer() (err error) {
	if c.r.TLS == nil {
		return refused(http.StatusForbidden, "error.tls")
	}
	if c.isMisdirected() {
		return refused(http.StatusMisdirectedRequest, "error.misdirected")
	}
	if c.r.Method == http.MethodPost {
		if err := c.readForm(); err != nil {
			return err
		}
	}
	if c.s, err = c.site.load(c.r.Context(), c.r); err != nil {
		return err
	}
	if c.s != nil {
		if c.e = c.site.person(c.s.person); c.e == nil {
			if err := c.site.end(c.r.Context(), c.s); err != nil {
				return err
			}
			c.s = nil
		}
	}
	if c.s != nil && c.r.Method == http.MethodPost && c.route.need != anybody && !c.s.owns(c.r.PostForm.Get("token")) {
		return refused(http.StatusForbidden, "error.token")
	}
	switch {
	case c.route.need == anybody:
	case c.s == nil:
		return c.redirect("login", "")
	case c.s.half && c.route.need > halfway:
		return c.redirect("second", "")
	case c.route.need == fresh && !c.s.isProved(c.site.cfg.Fresh):
		return c.redirectTo("confirm?to=" + known(c.name()))
	case c.route.need >= shown && !c.s.strong && !c.s.hasShown(c.site.cfg.Fresh):
		has, err := c.hasFactor(c.e.Key)
		if err != nil {
			return err
		}
		if has {
			return c.redirectTo("second?to=" + known(c.name()))
		}
	}
	return c.route.run(c)
}

// name is the page of the request below Root.
func (c *call) name() string { return strings.TrimPrefix(c.r.URL.Path, Root) }

// readForm reads a form that one of our own pages has sent.
func (c *call) readForm() error {
	if err := c.site.cross.Check(c.r); err != nil {
		return refused(http.StatusForbidden, "error.cross")
	}
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return refused(http.StatusUnsupportedMediaType, "error.form")
	}
	c.r.Body = http.MaxBytesReader(c.w, c.r.Body, maxForm)
	err = c.r.ParseForm()
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return refused(http.StatusRequestEntityTooLarge, "error.form")
	case err != nil:
		return refused(http.StatusBadRequest, "error.form")
	}
	return nil
}

// field is one field of the form.
func (c *call) field(name string) string { return c.r.PostForm.Get(name) }

// person returns the entry of somebody who may be logged in now, else nil.
func (s *Site) person(key directory.Key) *directory.Entry {
	snapshot := s.deps.Live.Snapshot()
	e := snapshot.ByKey(key)
	if e == nil || e.Kind != directory.KindPerson || snapshot.Limits(e).NoLogin {
		return nil
	}
	switch e.LoginState(time.Now()) {
	case directory.StateDisabled, directory.StateExpired, directory.StateGrace:
		return nil
	}
	return e
}

// refusal is an answer that is the client's doing.
type refusal struct {
	code int
	word string
}

// Error implements error.
func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.code, r.word) }

func refused(code int, word string) error { return &refusal{code, word} }

// fail answers with an error page. What is our own trouble is logged, and the client
// learns that it is temporary.
func (c *call) fail(err error) {
	var r *refusal
	if !errors.As(err, &r) {
		r = &refusal{http.StatusServiceUnavailable, "error.ours"}
		if c.r.Context().Err() == nil {
			c.log.ErrorContext(c.r.Context(), "page failed", "verb", c.route.pattern, "err", err)
		}
	}
	if err := c.show(r.code, "error", view{Alert: say(r.word), Detail: c.conn.Session}); err != nil {
		http.Error(c.w, say(r.word), r.code)
	}
}

// emit tells of something that a person has done.
func (c *call) emit(ctx context.Context, msg string, e *directory.Entry, err error, attrs ...slog.Attr) {
	ev := event.Event{Level: slog.LevelInfo, Room: "auth/selfservice", Msg: msg, Trace: c.conn.Session, Attrs: append([]slog.Attr{
		slog.String("session", c.conn.Session), slog.String("client", c.conn.Client.String()),
	}, attrs...)}
	if e != nil {
		ev.Attrs = append(ev.Attrs, slog.String("user", e.Primary.String()), slog.String("person", string(e.Key)))
	}
	if err != nil {
		if envelope.StatusOf(err).IsTemporary() {
			ev.Level = slog.LevelWarn
		}
		ev.Attrs = append(ev.Attrs, slog.Any("err", err))
	}
	c.site.deps.Events.Emit(ctx, ev)
}

// tell has the person told by mail of what was done. The change is done, so that an
// error is ours alone.
func (c *call) tell(e *directory.Entry, kind notice.Kind, line string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), 10*time.Second)
	defer cancel()
	if c.site.deps.Notices == nil {
		return
	}
	line += say("notice.from", c.conn.Client.String())
	if err := c.site.deps.Notices.Add(ctx, e.Key, kind, line); err != nil {
		c.log.ErrorContext(ctx, "a person is not told of a change of the own login", "user", string(e.Key), "err", err)
	}
}

// redirect sends the browser to another page, with a word on what was done.
func (c *call) redirect(page, done string) error {
	if done != "" {
		page += "?done=" + done
	}
	return c.redirectTo(page)
}

// redirectTo sends the browser to a page of ours. No part of path is the client's.
func (c *call) redirectTo(path string) error {
	http.Redirect(c.w, c.r, Root+path, http.StatusSeeOther)
	return nil
}

// view is what every page is made of.
type view struct {
	Name   string // of the page
	Title  string
	Person *directory.Entry // nil: not logged in
	Token  string
	Half   bool   // a second factor is to be shown first
	Alert  string // what went wrong
	Done   string // what went well
	Detail string // id of the request, for the administrator
	Here   string // the navigation's page
	Script bool   // the page has our script, which talks to security keys
	Page   any
}

// doneWords are what a redirect may say: nothing of the query gets into a page.
var doneWords = map[string]string{
	"password": "done.password", "logout": "done.logout", "everywhere": "done.everywhere",
	"factor": "done.factor", "revoked": "done.revoked", "removed": "done.removed", "ended": "done.ended",
}

// show answers with a page.
func (c *call) show(code int, page string, v view) error {
	v.Name, v.Title = page, say(page+".title")
	v.Here = c.name()
	if c.s != nil && c.e != nil {
		v.Person, v.Token, v.Half = c.e, c.s.token(), c.s.half
	}
	if w, ok := doneWords[c.r.URL.Query().Get("done")]; ok && v.Done == "" && c.r.Method == http.MethodGet {
		v.Done = say(w)
	}
	var b bytes.Buffer
	if err := c.site.pages[page].ExecuteTemplate(&b, "layout", v); err != nil {
		return fmt.Errorf("page %s: %w", page, err)
	}
	if v.Script {
		c.w.Header().Set("Content-Security-Policy", strings.Replace(c.w.Header().Get("Content-Security-Policy"), "default-src 'none';", "default-src 'none'; script-src 'self';", 1))
	}
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	c.w.WriteHeader(code)
	_, _ = c.w.Write(b.Bytes()) // the client has left
	return nil
}

// parsePages parses the templates: each page within the layout.
func parsePages() (map[string]*template.Template, error) {
	pages := make(map[string]*template.Template)
	names, err := fs.Glob(pagesFS, "pages/*.html")
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		name := strings.TrimSuffix(strings.TrimPrefix(n, "pages/"), ".html")
		if name == "layout" {
			continue
		}
		t, err := template.New(name).Funcs(template.FuncMap{"say": say, "root": func() string { return Root }, "link": newLink}).ParseFS(pagesFS, "pages/layout.html", n)
		if err != nil {
			return nil, err
		}
		pages[name] = t
	}
	return pages, nil
}

// link is one of the navigation.
type link struct {
	Path, Text string
	Here       bool
}

func newLink(v view, path, word string) link { return link{path, say(word), v.Here == path} }

// date is a time for people.
func date(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }

// shorten bounds a text of somebody else, and takes out what has no place in one.
func shorten(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
