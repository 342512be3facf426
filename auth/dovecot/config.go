package dovecot

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"dirpost/auth"
)

// Config is what an administrator sets of the socket.
type Config struct {
	// Services are those that clients may log people in for, by the names of the
	// protocol; "smtp" is submission to the directory. None: "smtp" alone.
	Services []string
	// Mechanisms restricts what is offered and taken, in capitals, beside what works;
	// none: no restriction.
	Mechanisms []string
	// AssumeSecured takes every client for one that is protected by TLS, whether
	// the other side says so or not. It is for programs that do not say it.
	AssumeSecured bool
	// LoginName answers with the name as it was typed. Otherwise the answer is the
	// person's address, which is the same however they log in.
	LoginName bool
	// MaxConnections bounds the connections at once. The default is 500: Postfix has
	// one for each of its smtpd processes.
	MaxConnections int
	// MaxRequests bounds the exchanges at once on one connection. The default is 64.
	MaxRequests int
}

func (c Config) withDefaults() Config {
	if len(c.Services) == 0 {
		c.Services = []string{"smtp"}
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 500
	}
	if c.MaxRequests == 0 {
		c.MaxRequests = 64
	}
	return c
}

// Validate reports what is wrong with c, in the words of the configuration.
func (c Config) Validate() error {
	var errs []error
	if slices.Contains(c.Services, "") {
		errs = append(errs, errors.New(`services: a name is empty`))
	}
	if slices.Contains(c.Mechanisms, "") {
		errs = append(errs, errors.New(`mechanisms: a name is empty`))
	}
	if c.MaxConnections < 0 || c.MaxRequests < 0 {
		errs = append(errs, errors.New("max_connections, max_requests: must not be negative"))
	}
	return errors.Join(errs...)
}

// Bridge is what the socket needs of the SASL bridge; *auth.Bridge has it.
type Bridge interface {
	Start(ctx context.Context, c auth.Conn, mechanism string) (auth.Exchange, error)
}

// Deps are what the socket stands on.
type Deps struct {
	Bridge Bridge
	// Mechanisms returns what is worth offering to somebody of whom nothing is
	// known yet, the better first: which of them works for a client is decided when
	// it comes.
	Mechanisms func() []string
	Log        *slog.Logger
}
