package selfservice

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"dirpost/directory"
	"dirpost/internal/postgres"
)

const (
	// cookieName has the prefix with which browsers take the cookie over TLS only,
	// from the host itself, for all of it.
	cookieName = "__Host-dirpost"
	idSize     = 32 // octets of a session's secret
	// maxSessions bounds the sessions of a person.
	maxSessions = 20
	// maxAgent bounds what is kept of a browser's name, in octets.
	maxAgent = 200
)

// session is what the database has of a session.
type session struct {
	id     []byte // the secret
	person directory.Key

	authcid   string
	mechanism string
	strong    bool
	half      bool // the second factor was not shown yet
	created   time.Time
	seen      time.Time
	proved    time.Time
	factor    time.Time // zero: not shown
	pending   []byte
	now       time.Time // of the database, when it was read
}

func hash(id []byte) []byte {
	sum := sha256.Sum256(id)
	return sum[:]
}

// token is the secret of the session's forms: who can send the cookie cannot know it
// without having read a page.
func (s *session) token() string {
	h := hmac.New(sha256.New, s.id)
	h.Write([]byte("form"))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// owns reports whether a form has the token of the session.
func (s *session) owns(token string) bool {
	return hmac.Equal([]byte(token), []byte(s.token()))
}

// isProved reports whether the person has shown lately who it is, hasShown whether a
// second factor was shown lately.
func (s *session) isProved(within time.Duration) bool { return s.now.Sub(s.proved) < within }

func (s *session) hasShown(within time.Duration) bool { return s.now.Sub(s.factor) < within }

const createSQL = `
insert into page_session (id_hash, person, authcid, mechanism, strong, client, agent, half, factor_at, proved_at, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, case when $9 then now() end, coalesce($10, now()), coalesce($11, now()))`

const crowdSQL = `
delete from page_session
 where person = $1
   and id_hash in (select id_hash from page_session where person = $1 order by seen_at desc offset $2)`

const endSQL = `delete from page_session where id_hash = $1`

// create begins a session, whatever session the browser had before: that one ends.
// A second factor that s says was shown was shown now; zero times are now.
func (c *call) create(ctx context.Context, s *session) error {
	s.id = make([]byte, idSize)
	rand.Read(s.id) // never fails (crypto/rand)
	err := c.site.deps.DB.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		if old := cookie(c.r); old != nil {
			if _, err := tx.Exec(ctx, endSQL, hash(old)); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, createSQL, hash(s.id), string(s.person), shorten(s.authcid, 256), s.mechanism, s.strong, c.conn.Client.String(), shorten(c.r.UserAgent(), maxAgent), s.half, !s.factor.IsZero(),
			orNull(s.proved), orNull(s.created)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, crowdSQL, string(s.person), maxSessions)
		return err
	})
	if err != nil {
		return fmt.Errorf("begin session: %w", err)
	}
	c.setCookie(base64.RawURLEncoding.EncodeToString(s.id), 0)
	c.setDevice()
	return nil
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// setCookie sets the cookie for as long as the browser runs, or takes it back.
func (c *call) setCookie(value string, maxAge int) {
	http.SetCookie(c.w, &http.Cookie{Name: cookieName, Value: value, Path: "/", MaxAge: maxAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

// cookie is the secret that a browser sends, nil if it sends none.
func cookie(r *http.Request) []byte {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	id, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || len(id) != idSize {
		return nil
	}
	return id
}

const loadSQL = `
select person, authcid, mechanism, strong, half, created_at, seen_at, proved_at, factor_at, pending, now()
  from page_session
 where id_hash = $1
   and seen_at > now() - $2::interval
   and created_at > now() - $3::interval`

const touchSQL = `update page_session set seen_at = now() where id_hash = $1`

// load returns the session of the request, nil if there is none.
func (s *Site) load(ctx context.Context, r *http.Request) (*session, error) {
	id := cookie(r)
	if id == nil {
		return nil, nil
	}
	v := &session{id: id}
	var factor *time.Time
	err := s.deps.DB.QueryRow(ctx, postgres.Interactive, loadSQL, hash(id), s.cfg.Idle, s.cfg.Lifetime).
		Scan(&v.person, &v.authcid, &v.mechanism, &v.strong, &v.half, &v.created, &v.seen, &v.proved, &factor, &v.pending, &v.now)
	if errors.Is(err, postgres.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	if factor != nil {
		v.factor = *factor
	}
	if v.now.Sub(v.seen) > time.Minute {
		if _, err := s.deps.DB.Exec(ctx, postgres.Interactive, touchSQL, hash(id)); err != nil {
			return nil, fmt.Errorf("read session: %w", err)
		}
	}
	return v, nil
}

// end ends one session.
func (s *Site) end(ctx context.Context, v *session) error {
	if _, err := s.deps.DB.Exec(ctx, postgres.Interactive, endSQL, hash(v.id)); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

const pendingSQL = `update page_session set pending = $2 where id_hash = $1`

// keep keeps what a form that is under way will need; nil forgets it.
func (c *call) keep(pending []byte) error {
	if _, err := c.site.deps.DB.Exec(c.r.Context(), postgres.Interactive, pendingSQL, hash(c.s.id), pending); err != nil {
		return fmt.Errorf("keep what was begun: %w", err)
	}
	c.s.pending = pending
	return nil
}

const takeSQL = `
update page_session s
   set pending = null
  from (select id_hash, pending from page_session where id_hash = $1 for update) old
 where s.id_hash = old.id_hash
returning old.pending`

// take returns what keep has kept, once.
func (c *call) take() (pending []byte, err error) {
	if err := c.site.deps.DB.QueryRow(c.r.Context(), postgres.Interactive, takeSQL, hash(c.s.id)).Scan(&pending); err != nil {
		return nil, fmt.Errorf("read what was begun: %w", err)
	}
	return pending, nil
}

const forgetSQL = `delete from page_session where person = $1`

// EndSessions ends the sessions of a person on the site, of all nodes.
func EndSessions(ctx context.Context, db *postgres.DB, person directory.Key) error {
	if _, err := db.Exec(ctx, postgres.Interactive, forgetSQL, string(person)); err != nil {
		return fmt.Errorf("end sessions of %s on the page: %w", person, err)
	}
	return nil
}

// logOut ends all sessions of the person, those of mail programs too.
func (s *Site) logOut(ctx context.Context, person directory.Key) error {
	if err := EndSessions(ctx, s.deps.DB, person); err != nil {
		return err
	}
	s.deps.LogOut(person)
	return nil
}

const purgeSQL = `
delete from page_session
 where seen_at <= now() - $1::interval
    or created_at <= now() - $2::interval`

// purgeEvery is how often a node looks for what has ended.
const purgeEvery = 10 * time.Minute

// Run takes away what has ended by itself, until ctx ends.
func (s *Site) Run(ctx context.Context) error {
	tick := time.NewTicker(purgeEvery)
	defer tick.Stop()
	for {
		if err := s.purge(ctx); err != nil && ctx.Err() == nil {
			s.deps.Log.WarnContext(ctx, "sessions of the page not purged", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Site) purge(ctx context.Context) error {
	if _, err := s.deps.DB.Exec(ctx, postgres.Background, purgeSQL, s.cfg.Idle, s.cfg.Lifetime); err != nil {
		return err
	}
	return s.deps.Factors.Purge(ctx)
}
