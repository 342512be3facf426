package selfservice

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"dirpost/auth"
	"dirpost/auth/apppassword"
	"dirpost/auth/factor"
	"dirpost/auth/history"
	"dirpost/auth/notice"
	"dirpost/directory"
	"dirpost/internal/event"
	"dirpost/internal/postgres"
)

// Config is what an administrator decides about the site.
type Config struct {
	// Idle is how long a session lasts that nobody uses, Lifetime how long any does.
	// The defaults are 15 min and 8 h.
	Idle     time.Duration
	Lifetime time.Duration
	// RequireFactor lets nobody make a credential, such as an app password, who has
	// neither a second factor nor come in by Kerberos from inside.
	RequireFactor bool
	// CertificateHost is the name under which the site may be entered by a client
	// certificate, "" for none, and CertificateURL where that is. The listener asks
	// browsers for one under that name, and under no other.
	CertificateHost string
	CertificateURL  string
	// Name is what authenticator apps call us; "" is the name of the host.
	Name string
	// Fresh is how long a login counts for what has power: after it, the person must
	// show again who it is. The default is 10 min.
	Fresh time.Duration
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		d   *time.Duration
		def time.Duration
	}{{&c.Idle, 15 * time.Minute}, {&c.Lifetime, 8 * time.Hour}, {&c.Fresh, 10 * time.Minute}} {
		if *d.d == 0 {
			*d.d = d.def
		}
	}
	return c
}

// Validate reports what is wrong with c, in the words of the configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.Idle < time.Minute || c.Idle > 24*time.Hour {
		errs = append(errs, errors.New("idle: want between 1m and 24h"))
	}
	if c.Lifetime < c.Idle || c.Lifetime > 7*24*time.Hour {
		errs = append(errs, errors.New("lifetime: want at least idle, and at most 7d"))
	}
	return errors.Join(errs...)
}

// PasswordChanger changes passwords of one directory; *ldap.Client is one.
type PasswordChanger interface {
	// ChangePassword changes the password of e, as the person. nil means changed. A
	// *directory.ChangeRefusal in the chain of the error says why not, a
	// *directory.Refusal that the old password does not let in; any other error
	// that nothing is known to have changed.
	ChangePassword(ctx context.Context, e *directory.Entry, old, new string) error
}

// Sessions knows the sessions of mail programs on all nodes; *roster.Roster does.
type Sessions interface {
	// Of returns those of a person, and whether all nodes have told theirs.
	Of(ctx context.Context, person directory.Key) (all []auth.Session, complete bool)
	// End ends one of them.
	End(person directory.Key, ref string)
}

// Deps are the parts of the house that the site stands on.
type Deps struct {
	DB     *postgres.DB
	Bridge *auth.Bridge
	Live   *directory.Live
	// Passwords change passwords, by the name of the directory. Where there is none,
	// the site offers no change.
	Passwords map[string]PasswordChanger
	// AppPasswords are passwords for programs; nil: there are none.
	AppPasswords *apppassword.Store
	// Factors are second factors.
	Factors *factor.Store
	// History is from where people have logged in, Notices what they are told by
	// mail; nil: nothing.
	History *history.Recorder
	Notices *notice.Box
	// Sessions are those of mail programs, of all nodes; nil: nothing is known of them.
	Sessions Sessions
	// LogOut closes the sessions of a person on all nodes.
	LogOut func(person directory.Key)
	Events event.Sink
	Log    *slog.Logger
}
