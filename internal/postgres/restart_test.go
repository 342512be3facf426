package postgres_test

import (
	"sync"
	"testing"

	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

// A database that was restarted is one to go on with: no statement fails because a
// connection from before waited for it.
func TestRestart(t *testing.T) {
	t.Parallel()
	server := testenv.NewCrashPostgres(t)
	db := open(t, server.URL())
	all := func(sql string) {
		t.Helper()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				var one int
				if err := db.QueryRow(t.Context(), postgres.Interactive, sql).Scan(&one); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	all("select 1 from pg_sleep(0.2)") // each on a connection of its own
	server.Crash(t)
	all("select 1")
	server.Stop()
	server.Start(t)
	all("select 1")
}
