package quota

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/internal/testenv"
)

// door takes warnings, with a real transaction.
type door struct {
	db    *postgres.DB
	fail  error
	mails []string
}

func (d *door) OriginateOverQuota(ctx context.Context, env *envelope.Envelope, msg io.WriterTo, settle func(context.Context, postgres.Tx) error) error {
	if d.fail != nil {
		return d.fail
	}
	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		return err
	}
	if err := d.db.InTx(ctx, postgres.Delivery, settle); err != nil {
		return err
	}
	d.mails = append(d.mails, env.Recipients[0].Address.String()+"\n"+b.String())
	return nil
}

// house has mailboxes of people with limits.
type house struct {
	t     *testing.T
	db    *postgres.DB
	store *store.Store
	door  *door
}

func newHouse(t *testing.T) *house {
	t.Helper()
	db := testenv.Database(t)
	return &house{t: t, db: db, door: &door{db: db}, store: store.New(db, blob.New(db), nil, slog.New(slog.DiscardHandler))}
}

// uses makes somebody's mailbox use so many octets.
func (h *house) uses(name string, octets int64) {
	h.t.Helper()
	a, err := h.store.Account(h.t.Context(), "test:"+name, store.KindPerson)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.db.Exec(h.t.Context(), postgres.Background, "update account set used_bytes = $2 where account_id = $1", int64(a.ID), octets); err != nil {
		h.t.Fatal(err)
	}
}

// look has a new node look, long after the last one, and returns who was warned.
func (h *house) look(entries ...*directory.Entry) string {
	h.t.Helper()
	if _, err := h.db.Exec(h.t.Context(), postgres.Background, "update quota_round set started_at = now() - interval '1 hour'"); err != nil {
		h.t.Fatal(err)
	}
	h.door.mails = nil
	if err := h.warner(entries...).Look(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	return h.warned()
}

func (h *house) warned() string {
	var names []string
	for _, m := range h.door.mails {
		name, _, _ := strings.Cut(m, "@")
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

func (h *house) warner(entries ...*directory.Entry) *Warner {
	h.t.Helper()
	w, err := New(Config{Percent: 90, Hostname: "mail.corp.example", Postmaster: envelope.Address{Local: "postmaster", Domain: "corp.example"}},
		h.db, directory.NewLive(directory.NewSnapshot([]string{"corp.example"}, entries)), h.door, slog.New(slog.DiscardHandler))
	if err != nil {
		h.t.Fatal(err)
	}
	return w
}

func person(name string, quota, warn int64) *directory.Entry {
	return &directory.Entry{Key: directory.Key("test:" + name), DN: "cn=" + name, Kind: directory.KindPerson, DisplayName: "Ms. " + name,
		Primary: envelope.Address{Local: name, Domain: "corp.example"}, Login: directory.StateActive, Delivery: directory.StateActive, Quota: quota, QuotaWarn: warn}
}

// Who crosses the threshold is warned once, until there was room again.
func TestWarnOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	alice := person("alice", 1000<<20, 0)
	for i, step := range []struct {
		used int64
		want string
	}{
		{0, ""}, {899 << 20, ""}, {900 << 20, "alice"}, {950 << 20, ""}, {1100 << 20, ""},
		{890 << 20, ""}, {910 << 20, ""}, // not below by enough
		{800 << 20, ""}, {901 << 20, "alice"},
	} {
		h.uses("alice", step.used)
		if got := h.look(alice); got != step.want {
			t.Errorf("step %d, %d octets: warned %q, want %q", i, step.used, got, step.want)
		}
	}
}

func TestThresholds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	gone := person("gone", 100, 0)
	gone.Gone = time.Now()
	for _, name := range []string{"percent", "named", "endless", "below", "gone", "stranger"} {
		h.uses(name, 95)
	}
	got := h.look(person("percent", 100, 0), person("named", 0, 90), person("endless", 0, 0), person("below", 100, 99), gone)
	if got != "percent named" && got != "named percent" {
		t.Errorf("warned %q", got)
	}
	for _, m := range h.door.mails {
		for _, want := range []string{"From: Postmaster <postmaster@corp.example>\r\n", "Auto-Submitted: auto-generated\r\n", "95 octets of mail"} {
			if !strings.Contains(m, want) {
				t.Errorf("no %q in\n%s", want, m)
			}
		}
		if isFull := strings.Contains(m, "Subject: Your mailbox is 95 % full\r\n"); isFull != strings.HasPrefix(m, "percent") {
			t.Errorf("subject in\n%s", m)
		}
	}
	// A larger quota is room.
	if got := h.look(person("percent", 1000, 0), person("named", 0, 90)); got != "" {
		t.Errorf("with a larger quota: %q", got)
	}
	h.uses("percent", 990)
	if got := h.look(person("percent", 1000, 0), person("named", 0, 90)); got != "percent" {
		t.Errorf("after it was filled again: %q", got)
	}
}

// One node looks at a time; what fails is tried again; an account that is gone leaves
// nothing behind.
func TestTurns(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	alice := person("alice", 100, 0)
	h.uses("alice", 99)
	h.door.fail = errors.New("database away")
	if err := h.warner(alice).Look(t.Context()); err == nil || !strings.Contains(err.Error(), "database away") {
		t.Errorf("failure: %v", err)
	}
	h.door.fail = nil
	if err := h.warner(alice).Look(t.Context()); err != nil || h.warned() != "" {
		t.Errorf("another node at once: %v, warned %q", err, h.warned())
	}
	if got := h.look(alice); got != "alice" {
		t.Errorf("tried again: %q", got)
	}
	if _, err := h.db.Exec(t.Context(), postgres.Background, "delete from account"); err != nil {
		t.Fatal(err)
	}
	h.look(alice)
	var left int
	if err := h.db.QueryRow(t.Context(), postgres.Background, "select count(*) from quota_warning").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows are left, %v", left, err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := Config{Hostname: "mail.example", Postmaster: envelope.Address{Local: "p", Domain: "example"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Config{{}, {Percent: 101, Hostname: "x", Postmaster: good.Postmaster}, {Every: -1, Hostname: "x", Postmaster: good.Postmaster}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
