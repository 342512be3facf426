package verify

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
	"dirpost/mta/remote"
	"dirpost/mta/route"

	"github.com/emersion/go-smtp"
)

// hop routes to a given next hop, as the configuration names it.
type hop struct{}

func (hop) Route(ctx context.Context, domain, nextHop string) (*route.Route, error) {
	r, err := route.New(route.Config{Hostname: "mail.corp.example"}, nil, nil)
	if err != nil {
		return nil, err
	}
	return r.Route(ctx, domain, nextHop)
}

// node is one of the nodes on db.
func node(t *testing.T, db *postgres.DB) *Verifier {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	smtp, err := remote.New(remote.Config{Hostname: "mail.corp.example"}, blob.New(db), log)
	if err != nil {
		t.Fatal(err)
	}
	v := New(db, hop{}, smtp, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		smtp.Close()
	})
	for { // it takes no questions before
		v.mu.Lock()
		ready := v.run != nil
		v.mu.Unlock()
		if ready {
			return v
		}
		time.Sleep(time.Millisecond)
	}
}

// other is a mail system that knows the addresses that begin with "known".
func other(t *testing.T, asked *atomic.Int32) *testenv.SMTPServer {
	t.Helper()
	answers := map[string]*smtp.SMTPError{
		"plain":   {Code: 550, EnhancedCode: smtp.NoEnhancedCode, Message: "no such user"},
		"exists":  {Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 10}, Message: "RESOLVER.ADR.RecipientNotFound"},
		"barred":  {Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "Relay access denied"},
		"greylst": {Code: 450, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "later"},
		"full":    {Code: 552, EnhancedCode: smtp.EnhancedCode{5, 2, 2}, Message: "mailbox full"},
	}
	return testenv.SMTP(t, testenv.SMTPRefusal{Rcpt: func(to string) error {
		asked.Add(1)
		if local, _, _ := strings.Cut(to, "@"); answers[local] != nil {
			return answers[local]
		}
		return nil
	}}, nil)
}

func address(t testing.TB, s string) envelope.Address {
	t.Helper()
	a, err := envelope.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// status is the answer to the client, "" for yes.
func status(err error) string {
	if err == nil {
		return ""
	}
	st := envelope.StatusOf(err)
	return fmt.Sprint(st.Code, " ", st.Enhanced)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	var asked atomic.Int32
	system := other(t, &asked)
	first, second := node(t, db), node(t, db)
	for _, tt := range []struct {
		local, want string
		probes      int32 // of two questions to two nodes
	}{
		{"known", "", 1},
		{"KNOWN", "", 0}, // the same
		{"exists", "550 5.1.1", 1},
		{"plain", "550 5.1.1", 1},
		{"barred", "451 4.4.1", 2}, // it refuses us, not the recipient
		{"greylst", "451 4.4.1", 2},
		{"full", "451 4.4.1", 2},
		{"grüße", "550 5.1.1", 0}, // it does not take such addresses, and would return the mail
	} {
		before := asked.Load()
		a := address(t, tt.local+"@corp.example")
		for i, v := range []*Verifier{first, second} {
			if got := status(v.Verify(t.Context(), a, system.Addr)); got != tt.want {
				t.Errorf("%s, node %d: %q, want %q", tt.local, i, got, tt.want)
			}
		}
		if n := asked.Load() - before; n != tt.probes {
			t.Errorf("%s was asked for %d times, want %d", tt.local, n, tt.probes)
		}
	}
	if n := len(system.Messages()); n != 0 {
		t.Errorf("%d messages were sent", n)
	}
}

// Answers end, and are asked for again before they do, without anybody waiting.
func TestVerifyRefresh(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	var asked atomic.Int32
	system := other(t, &asked)
	v := node(t, db)
	known, gone := address(t, "known@corp.example"), address(t, "exists@corp.example")
	age := func(set string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), postgres.Background, "update recipient_probe set "+set); err != nil {
			t.Fatal(err)
		}
	}
	both := func() string {
		return status(v.Verify(t.Context(), known, system.Addr)) + "/" + status(v.Verify(t.Context(), gone, system.Addr))
	}
	for _, tt := range []struct {
		set  string
		want int32
	}{
		{"probed_at = now()", 2},
		{"probed_at = now() - interval '4 minutes'", 2},
		{"probed_at = now() - interval '6 minutes'", 3}, // who did not exist may do now
		{"probed_at = now() - interval '13 hours'", 5},
		{"expires_at = now()", 7},
	} {
		age(tt.set)
		if got := both(); got != "/550 5.1.1" {
			t.Errorf("%s: %q", tt.set, got)
		}
		v.working.Wait()
		if n := asked.Load(); n != tt.want {
			t.Errorf("%s: asked %d times by now, want %d", tt.set, n, tt.want)
		}
	}
}

// While the other system is away nobody is refused, what is known goes on being
// known, and it is not asked over and over.
func TestVerifyAway(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	v := node(t, db)
	const away = "127.0.0.1:1" // nobody listens there
	if _, err := db.Exec(t.Context(), postgres.Background, storeSQL, away, "known@corp.example", true, "", time.Hour); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if got := status(v.Verify(t.Context(), address(t, fmt.Sprintf("x%d@corp.example", i)), away)); got != "451 4.4.1" {
				t.Errorf("unknown while it is away: %q", got)
			}
		})
	}
	wg.Wait()
	if got := status(v.Verify(t.Context(), address(t, "known@corp.example"), away)); got != "" {
		t.Errorf("known while it is away: %q", got)
	}
	v.mu.Lock()
	alone := len(v.alone)
	v.mu.Unlock()
	if alone != 1 {
		t.Errorf("%d hops are left alone", alone)
	}
}

// Many who ask for one address at once cost one question; a system that does not
// answer keeps nobody waiting without end.
func TestVerifyTogether(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	var asked atomic.Int32
	release := make(chan struct{})
	system := testenv.SMTP(t, testenv.SMTPRefusal{Rcpt: func(string) error { asked.Add(1); <-release; return nil }}, nil)
	v := node(t, db)
	slow := address(t, "slow@corp.example")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := status(v.Verify(ctx, slow, system.Addr)); !strings.HasPrefix(got, "4") {
				t.Errorf("who did not wait for the answer heard %q", got)
			}
		})
	}
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel() // the clients hang up; the question is still asked
	wg.Wait()
	close(release)
	v.working.Wait()
	if got := status(v.Verify(t.Context(), slow, system.Addr)); got != "" || asked.Load() != 1 {
		t.Errorf("then %q, asked %d times", got, asked.Load())
	}
}

// What is past its time is taken away, and before and after Run nobody is asked.
func TestVerifyPurge(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	v := New(db, hop{}, nil, slog.New(slog.DiscardHandler))
	if got := status(v.Verify(t.Context(), address(t, "x@corp.example"), "127.0.0.1:1")); got != "451 4.4.1" {
		t.Errorf("before Run: %q", got)
	}
	if _, err := db.Exec(t.Context(), postgres.Background, `
insert into recipient_probe (next_hop, address, known, reply, expires_at)
select 'hop', n::text, true, '', now() + case when n % 2 = 0 then interval '-1 minute' else interval '1 minute' end
  from generate_series(1, 10) n`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), postgres.Background, purgeSQL, purgeAtMost); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := db.QueryRow(t.Context(), postgres.Background, "select count(*) from recipient_probe").Scan(&left); err != nil || left != 5 {
		t.Errorf("%d rows are left (%v), want 5", left, err)
	}
}
