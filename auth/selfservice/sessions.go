package selfservice

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"dirpost/auth"
	"dirpost/auth/apppassword"
	"dirpost/internal/postgres"
)

// sessionsView are all sessions of a person.
type sessionsView struct {
	Browsers []browserView
	Programs []programView
	// Known says that those of programs are known, Missing that some nodes have not
	// told theirs.
	Known, Missing bool
}

// browserView is one of the person's sessions on this site.
type browserView struct {
	ID            string
	Client, Agent string
	Created, Seen string
	Here          bool
}

// programView is one of the person's sessions of mail programs.
type programView struct {
	Ref           string
	Client, What  string
	Since, Active string
	By            string // who acts as the person, or as whom the person acts; "" for nobody else
}

// sessions shows where the person is logged in.
func (c *call) sessions() error {
	v, err := c.site.browsers(c.r.Context(), c.s)
	if err != nil {
		return err
	}
	page := sessionsView{Browsers: v}
	if s := c.site.deps.Sessions; s != nil {
		all, complete := s.Of(c.r.Context(), c.e.Key)
		page.Known, page.Missing = true, !complete
		names, err := c.appNames(all)
		if err != nil {
			return err
		}
		for _, o := range all {
			page.Programs = append(page.Programs, c.program(o, names))
		}
	}
	return c.show(http.StatusOK, "sessions", view{Page: page})
}

// program describes the session of a mail program.
func (c *call) program(o auth.Session, names map[apppassword.ID]string) programView {
	what, ok := words["logins."+o.Protocol]
	if !ok {
		what = o.Protocol
	}
	p := programView{Ref: o.Ref, Client: o.Client.String(), What: what + ", " + o.Mechanism, Since: date(o.Since), Active: date(o.Active)}
	if o.Active.IsZero() {
		p.Active = ""
	}
	if name := names[o.AppPassword]; name != "" {
		p.What += ", " + say("sessions.app", name)
	}
	switch s := c.site.deps.Live.Snapshot(); {
	case o.Actor == o.Person:
	case o.Actor == c.e.Key:
		if e := s.ByKey(o.Person); e != nil {
			p.By = say("sessions.as", e.Primary.Unicode())
		}
	default:
		who := o.Authcid
		if e := s.ByKey(o.Actor); e != nil && e.DisplayName != "" {
			who = e.DisplayName
		}
		p.By = say("sessions.by", shorten(who, 128))
	}
	return p
}

// appNames are the names of the app passwords by which sessions were opened.
func (c *call) appNames(all []auth.Session) (map[apppassword.ID]string, error) {
	store := c.site.deps.AppPasswords
	names := make(map[apppassword.ID]string)
	for _, o := range all {
		if o.AppPassword == 0 || o.Actor != c.e.Key || store == nil {
			continue
		}
		list, err := store.List(c.r.Context(), c.e.Key)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			names[p.ID] = p.Name
		}
		break
	}
	return names, nil
}

// endSession ends one session: of a mail program, on whatever node, or of a browser.
func (c *call) endSession() error {
	if ref := c.field("ref"); ref != "" && len(ref) <= 64 && c.site.deps.Sessions != nil {
		c.site.deps.Sessions.End(c.e.Key, ref)
		c.emit(c.r.Context(), "session of a program ended", c.e, nil, slog.String("by", "the person"))
		return c.redirect("sessions", "ended")
	}
	id, err := hex.DecodeString(c.field("id"))
	if err != nil || len(id) != len(hash(nil)) {
		return refused(http.StatusBadRequest, "error.form")
	}
	if _, err := c.site.deps.DB.Exec(c.r.Context(), postgres.Interactive, endOneSQL, string(c.e.Key), id); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	c.emit(c.r.Context(), "page session ended", c.e, nil, slog.String("by", "the person"))
	return c.redirect("sessions", "ended")
}

const endOneSQL = `delete from page_session where person = $1 and id_hash = $2`

const listSQL = `
select id_hash, client, agent, created_at, seen_at, id_hash = $2
  from page_session
 where person = $1
   and seen_at > now() - $3::interval
   and created_at > now() - $4::interval
 order by seen_at desc`

// browsers returns the sessions of the person of v on this site.
func (s *Site) browsers(ctx context.Context, v *session) ([]browserView, error) {
	rows, err := s.deps.DB.Query(ctx, postgres.Interactive, listSQL, string(v.person), hash(v.id), s.cfg.Idle, s.cfg.Lifetime)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	defer rows.Close()
	var all []browserView
	for rows.Next() {
		var (
			o             browserView
			id            []byte
			created, seen time.Time
		)
		if err := rows.Scan(&id, &o.Client, &o.Agent, &created, &seen, &o.Here); err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		o.ID, o.Created, o.Seen = hex.EncodeToString(id), date(created), date(seen)
		all = append(all, o)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return all, nil
}
