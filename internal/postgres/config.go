package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"dirpost/internal/nonblock"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Class says for whom a connection is used. Each class has a pool of its own.
type Class uint8

// The classes of work.
const (
	Interactive Class = iota // a person waits: IMAP, POP3, logins
	Delivery                 // accepting and delivering mail
	Background               // queue runs, purge, feeds
	classes
)

// Config says which database to use and how.
type Config struct {
	// URL is a connection URL or keyword/value string as libpq reads it.
	URL string
	// Name is reported as application_name.
	Name string
	// Interactive, Delivery and Background are the sizes of the pools; 0
	// takes the default (8, 8, 4). A pool size is a number of database
	// processes: 4 to 8 per core of the database host, over all nodes.
	Interactive, Delivery, Background int
	// StatementTimeout ends a statement that takes longer; 0: 30 s.
	StatementTimeout time.Duration
	// IdleInTransaction ends a transaction that does nothing for longer;
	// 0: 10 s.
	IdleInTransaction time.Duration
	// LockTimeout ends a statement that waits longer for a lock; 0: 10 s.
	LockTimeout time.Duration
	// AllowInsecure permits a network connection without sslmode=verify-full.
	AllowInsecure bool
	// AllowUnsafe permits a database with fsync, full_page_writes or
	// synchronous_commit off: it loses mail that was answered with 250.
	AllowUnsafe bool
}

// ErrInsecure reports a connection over a network that is not protected by
// sslmode=verify-full.
var ErrInsecure = errors.New("database connection over a network without sslmode=verify-full")

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	if c.URL == "" {
		return errors.New("database URL is empty")
	}
	for _, n := range []int{c.Interactive, c.Delivery, c.Background} {
		if n < 0 || n > 1000 {
			return fmt.Errorf("database pool size %d: want 1 to 1000", n)
		}
	}
	for _, d := range []time.Duration{c.StatementTimeout, c.IdleInTransaction, c.LockTimeout} {
		if d < 0 {
			return fmt.Errorf("database timeout %v is negative", d)
		}
	}
	_, err := c.pool(Interactive)
	return err
}

// parse reads the URL and refuses an insecure one. The error never holds the
// URL, which may hold a password.
func (c Config) parse() (*pgxpool.Config, error) {
	p, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		var pe *pgconn.ParseConfigError
		if errors.As(err, &pe) {
			return nil, errors.New("database URL cannot be parsed: " + withoutConnString(pe.Error()))
		}
		return nil, errors.New("database URL cannot be parsed")
	}
	if !c.AllowInsecure && !isVerified(&p.ConnConfig.Config) {
		return nil, ErrInsecure
	}
	return p, nil
}

// withoutConnString cuts the URL out of the driver's error text: the driver
// redacts passwords that it finds, but not those in a string it cannot read.
func withoutConnString(s string) string {
	if i := strings.LastIndex(s, "`: "); i >= 0 {
		return s[i+3:]
	}
	return "syntax error"
}

// isVerified reports whether every address that the driver may try is a unix
// socket or protected by TLS with a verified name.
func isVerified(c *pgconn.Config) bool {
	if !strings.HasPrefix(c.Host, "/") && !strings.HasPrefix(c.Host, "@") && (c.TLSConfig == nil || c.TLSConfig.InsecureSkipVerify) {
		return false
	}
	for _, f := range c.Fallbacks {
		if !strings.HasPrefix(f.Host, "/") && !strings.HasPrefix(f.Host, "@") && (f.TLSConfig == nil || f.TLSConfig.InsecureSkipVerify) {
			return false
		}
	}
	return true
}

// pool returns the settings of the pool of one class.
func (c Config) pool(class Class) (*pgxpool.Config, error) {
	p, err := c.parse()
	if err != nil {
		return nil, err
	}
	size, name := [classes]int{c.Interactive, c.Delivery, c.Background}[class], [classes]string{"interactive", "delivery", "background"}[class]
	if size == 0 {
		size = [classes]int{8, 8, 4}[class]
	}
	p.MaxConns = int32(size)
	p.MinConns = 0
	p.MaxConnLifetime = 30 * time.Minute
	p.MaxConnLifetimeJitter = 5 * time.Minute
	// A database process that has served all kinds of statements holds some MB:
	// what a burst opened is closed soon after it. The pool hands out the last
	// one used, so that under an even load the rest ages.
	p.MaxConnIdleTime = 30 * time.Second
	p.HealthCheckPeriod = 10 * time.Second
	p.ConnConfig.ConnectTimeout = 10 * time.Second
	// A database that was restarted has ended the connections that wait here. Without a
	// look each of them would fail one statement of somebody; it costs a microsecond.
	p.PrepareConn = func(_ context.Context, c *pgx.Conn) (bool, error) { return nonblock.IsQuiet(c.PgConn().Conn()), nil }
	dial := p.ConnConfig.DialFunc
	p.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return nonblock.Conn(c), nil
	}
	c.session(p.ConnConfig.RuntimeParams, name)
	return p, nil
}

// session sets what each connection is opened with.
func (c Config) session(params map[string]string, name string) {
	app := c.Name
	if app == "" {
		app = "dirpost"
	}
	params["application_name"] = app + " " + name
	params["statement_timeout"] = milliseconds(c.StatementTimeout, 30*time.Second)
	params["idle_in_transaction_session_timeout"] = milliseconds(c.IdleInTransaction, 10*time.Second)
	params["lock_timeout"] = milliseconds(c.LockTimeout, 10*time.Second)
	params["timezone"] = "UTC"
	// Statements of a mail server are short; compiling them never pays.
	params["jit"] = "off"
	// Every statement is bounded by a key. Without this a plan made while a
	// table was small would scan it when it has grown.
	params["enable_seqscan"] = "off"
}

func milliseconds(d, def time.Duration) string {
	if d == 0 {
		d = def
	}
	return fmt.Sprint(d.Milliseconds())
}
