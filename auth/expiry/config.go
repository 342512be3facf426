package expiry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/postgres"
)

// Config is what an administrator decides about warnings.
type Config struct {
	// Days are the marks: how many days before the end somebody is told. None: never.
	Days []int
	// URL is where people change their password; "" where there is no such page.
	URL string
	// Hostname is our name, and From who writes.
	Hostname string
	From     envelope.Address
	// Every is how often somebody looks. The default is 6 h.
	Every time.Duration
	// Lease is how long a round may take before another node does it. The default
	// is 15 min.
	Lease time.Duration
}

// DefaultDays are the marks where the configuration names none.
func DefaultDays() []int { return []int{14, 7, 3, 1} }

func (c Config) withDefaults() Config {
	if c.Every == 0 {
		c.Every = 6 * time.Hour
	}
	if c.Lease == 0 {
		c.Lease = 15 * time.Minute
	}
	c.Days = slices.Clone(c.Days)
	slices.Sort(c.Days)
	return c
}

// Validate reports what is wrong with c, in the words of the configuration.
func (c Config) Validate() error {
	var errs []error
	for _, d := range c.Days {
		if d < 1 || d > 365 {
			errs = append(errs, fmt.Errorf("days: %d is not between 1 and 365", d))
		}
	}
	if c.URL != "" {
		if u, err := url.Parse(c.URL); err != nil || u.Scheme != "https" || u.Host == "" {
			errs = append(errs, fmt.Errorf("url: %q is no address such as https://mail.example.com/", c.URL))
		}
	}
	return errors.Join(errs...)
}

// Source knows when the passwords of one directory expire; *ldap.Client is one.
type Source interface {
	// Name is the name of the directory.
	Name() string
	// PasswordEnds returns whose passwords expire after from and not after to.
	PasswordEnds(ctx context.Context, from, to time.Time) ([]directory.PasswordEnd, error)
}

// Originator accepts a message that we have written, with settle in the same
// transaction; *intake.Door is one.
type Originator interface {
	Originate(ctx context.Context, env *envelope.Envelope, msg io.WriterTo, settle func(context.Context, postgres.Tx) error) error
}

// Deps are the parts that the job works with.
type Deps struct {
	DB         *postgres.DB
	Live       *directory.Live
	Sources    []Source
	Originator Originator
	Events     event.Sink
	Log        *slog.Logger
}
