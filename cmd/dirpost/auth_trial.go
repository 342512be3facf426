package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"text/tabwriter"

	"dirpost/auth"
	"dirpost/directory/ldap"
	"dirpost/internal/bus"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/postgres"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

// authTestCommand is `dirpost auth test`.
func authTestCommand(path *string, std streams) *cobra.Command {
	var o trialOptions
	c := &cobra.Command{
		Use: "test USER", Short: "Walk through a login step by step, and say what becomes of it",
		Long: `Test asks what a node asks when somebody logs in, and says each answer: which door the
client comes through, which mechanisms it is offered, whose name it is, the state of
the account, policies, the protocol, on whose behalf.

With --password the password is asked for, or read from the first line of the input,
and judged by the directory, where a wrong one counts like any other. Without it the
steps are those of a login whose password is right.

The exit status is 0 for a login that works, 1 for one that does not.`,
		Example: `  dirpost auth test alice
  dirpost auth test 'CORP\alice' --protocol pop3 --from 203.0.113.7 --password
  dirpost auth test admin --as alice@example.com --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withReplica(c.Context(), *path, std, func(ctx context.Context, file *File, db *postgres.DB) error {
				return o.run(ctx, file, db, args[0], std)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&o.protocol, "protocol", "imap", "imap, pop3, submission, sieve or http")
	f.StringVar(&o.from, "from", "", "address of the client; this host without it")
	f.StringVar(&o.as, "as", "", "whom to act as (authorization identity)")
	f.BoolVar(&o.clear, "clear", false, "a connection without TLS")
	f.BoolVar(&o.password, "password", false, "ask for the password, and have it judged")
	f.BoolVar(&o.asJSON, "json", false, "one JSON object")
	return c
}

type trialOptions struct {
	protocol, from, as      string
	clear, password, asJSON bool
}

// tried is what `dirpost auth test --json` prints.
type tried struct {
	User   string       `json:"user"`
	Steps  []auth.Step  `json:"steps"`
	Works  bool         `json:"works"`
	Answer *loginAnswer `json:"answer,omitempty"`
}

// loginAnswer is what the client would be told, in each protocol.
type loginAnswer struct {
	SMTP string `json:"smtp"`
	IMAP string `json:"imap"`
	POP3 string `json:"pop3"`
}

func (o trialOptions) run(ctx context.Context, file *File, db *postgres.DB, user string, std streams) error {
	t := auth.Trial{Authcid: user, Authzid: o.as, Conn: auth.Conn{Protocol: o.protocol, TLS: !o.clear, Client: netip.IPv6Loopback(), Session: "auth test"}}
	switch o.protocol {
	case "submission":
		t.Conn.Protocol = "smtp"
	case "sieve":
		t.Conn.Protocol = "managesieve"
	case "imap", "pop3", "http":
	default:
		return fmt.Errorf("--protocol: %q is none of imap, pop3, submission, sieve, http", o.protocol)
	}
	if o.from != "" {
		var err error
		if t.Conn.Client, err = netip.ParseAddr(o.from); err != nil {
			return fmt.Errorf("--from: %q is no address", o.from)
		}
	}
	bridge, end, err := trialBridge(ctx, file, db, newLogger(file.Log, std.err))
	if err != nil {
		return err
	}
	defer end()
	if o.password {
		if t.Password, err = readPassword(ctx, "Password of "+user+": ", "", std); err != nil {
			return err
		}
	}
	steps, err := bridge.Try(ctx, t)
	x := tried{User: user, Steps: steps, Works: err == nil}
	if err != nil {
		st := envelope.StatusOf(err)
		x.Answer = &loginAnswer{SMTP: fmt.Sprintf("%d %s %s", st.Code, st.Enhanced, st.Text), IMAP: "NO [" + st.IMAP + "] " + st.Text, POP3: "-ERR [" + st.POP3 + "] " + st.Text}
	}
	if o.asJSON {
		enc := json.NewEncoder(std.out)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(x); err != nil {
			return err
		}
	} else if err := x.write(std.out); err != nil {
		return err
	}
	if !x.Works {
		return exitCode(1)
	}
	return nil
}

// write writes x for people.
func (x tried) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "Login as %s\n", x.User)
	for _, s := range x.Steps {
		mark := "ok"
		if !s.OK {
			mark = "NO"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", mark, s.Name, strings.ReplaceAll(s.Text, "\n", " "))
	}
	if x.Works {
		fmt.Fprintln(w, "The login works.")
	} else {
		fmt.Fprintln(w, "The client is told:")
		fmt.Fprintf(w, "  SMTP\t%s\n  IMAP\t%s\n  POP3\t%s\n", x.Answer.SMTP, x.Answer.IMAP, x.Answer.POP3)
	}
	return w.Flush()
}

// trialBridge is a bridge as nodes have it, on the replica as it is now.
func trialBridge(ctx context.Context, file *File, db *postgres.DB, log *slog.Logger) (_ *auth.Bridge, end func(), err error) {
	c, err := file.Auth.config()
	if err != nil {
		return nil, nil, fmt.Errorf("auth: %w", err)
	}
	live, err := replicaLive(ctx, file, db)
	if err != nil {
		return nil, nil, err
	}
	// A node that never runs: its parts are the same.
	n := &node{
		file: file, log: log, db: db, live: live, bus: bus.New(db, log), events: event.Discard,
		metrics: prometheus.NewRegistry(), verifiers: make(map[string]auth.Verifier),
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.tickets, err = file.tickets(); err != nil {
		return nil, nil, err
	}
	for _, name := range file.names() {
		client, err := file.client(name, false, log)
		if err != nil {
			return nil, nil, err
		}
		n.closers = append(n.closers, client.Close)
		err = file.withMachine(ctx, client, log, func(m ldap.Machine) error {
			return errors.Join(client.SetMachine(m), takeMachine(n.tickets, client.Name(), m))
		})
		if err != nil {
			return nil, nil, err
		}
		n.verifiers[name] = client
	}
	parts, err := n.authParts(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("auth: %w", err)
	}
	return auth.New(c, live, parts, event.Discard), n.close, nil
}
