package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// silence is how long a listener waits before it asks whether the connection
// still lives.
const silence = 30 * time.Second

// Listen calls f for each notification on channel until ctx is done. It keeps a
// connection of its own outside the pools, and makes a new one when it breaks.
// connected is called each time LISTEN has been acknowledged: what was sent
// before is lost, so the caller looks at everything it watches then. Both run
// in the goroutine of Listen and must be quick.
func (db *DB) Listen(ctx context.Context, channel string, f func(payload string), connected func()) error {
	away := false
	for {
		err := db.listen(ctx, channel, f, func() {
			if away {
				db.log.InfoContext(ctx, "listening again", "channel", channel)
				away = false
			}
			connected()
		})
		if ctx.Err() != nil {
			return nil
		}
		if !away {
			db.log.WarnContext(ctx, "listener lost its connection", "channel", channel, "err", err)
			away = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(250*time.Millisecond + rand.N(750*time.Millisecond)):
		}
	}
}

// listen serves one connection until it breaks.
func (db *DB) listen(ctx context.Context, channel string, f func(string), connected func()) error {
	conn, err := db.own(ctx, "listener")
	if err != nil {
		return err
	}
	defer closeSoon(conn)
	if _, err := conn.Exec(ctx, "listen "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	connected()
	for {
		wait, cancel := context.WithTimeout(ctx, silence)
		n, err := conn.WaitForNotification(wait)
		cancel()
		switch {
		case err == nil:
			f(n.Payload)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, context.DeadlineExceeded) && !conn.IsClosed():
			probe, cancel := context.WithTimeout(ctx, 10*time.Second)
			err := conn.Ping(probe)
			cancel()
			if err != nil {
				return fmt.Errorf("ping: %w", err)
			}
		default:
			return fmt.Errorf("wait for notification: %w", err)
		}
	}
}

// own opens a connection outside the pools.
func (db *DB) own(ctx context.Context, name string) (*pgx.Conn, error) {
	p, err := db.config.pool(Background)
	if err != nil {
		return nil, err
	}
	db.config.session(p.ConnConfig.RuntimeParams, name)
	conn, err := pgx.ConnectConfig(ctx, p.ConnConfig)
	if err != nil {
		return nil, Classify(fmt.Errorf("connect: %w", err))
	}
	return conn, nil
}

// closeSoon closes conn also when its context is over.
func closeSoon(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // nothing depends on it
}

// Notify sends payloads to channel, each at most 7,999 octets. Notifications
// are hints: this transaction alone does not wait for the disk, and it must
// never be part of one that writes, because NOTIFY makes all commits of the
// database wait for each other.
func (db *DB) Notify(ctx context.Context, channel string, payloads []string) error {
	if len(payloads) == 0 {
		return nil
	}
	var b Batch
	b.Queue(`set local synchronous_commit = off`)
	b.Queue(`select pg_notify($1, p) from unnest($2::text[]) p`, channel, payloads)
	if err := db.SendBatch(ctx, Background, &b).Close(); err != nil {
		return Classify(fmt.Errorf("notify: %w", err))
	}
	return nil
}
