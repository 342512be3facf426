package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"dirpost/directory"
	"dirpost/directory/join"
	"dirpost/internal/resolver"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// setupCommand is `dirpost setup`.
func setupCommand(path *string, std streams) *cobra.Command {
	var flags setupAnswers
	var o setupOptions
	c := &cobra.Command{
		Use: "setup", Short: "Ask five questions, try each answer, and make a server of them",
		Long: `Setup asks which domains mail is for, who the people are (a directory to read, or
Active Directory to join), where the mail is kept (a PostgreSQL of its own, or yours),
which networks are inside, and where the certificate comes from. Each answer is tried
at once: names in the DNS, the servers, passwords, rights and settings. It shows who
would get a mailbox here, before anything is changed.

Then it makes the database, the computer account, keys and the configuration, and
prints the DNS records to publish and the one command that is left to do. Until then
it writes nothing, and the configuration appears whole, as the last of all: Ctrl-C is
safe at any time.

Run again, it offers what is there, and changes only what is answered differently:
comments and all other keys of the configuration stay as they are, and the file of
before is kept with .old behind its name.

With --answers or --unattended, or without a terminal, it asks nothing and ends with
one line that says what is missing or wrong. Answers on the command line count before
those of the file, and these before what is there. Passwords are asked for without
echo, or are references to files (file:/PATH); none stands in an answer.

The configuration is that of the package, /etc/dirpost/dirpost.toml, or one in a
directory of your own (--dir), which needs no root: with it the database is made there.`,
		Example: `  sudo dirpost setup
  dirpost setup --answers-example > answers.toml
  sudo dirpost setup --answers answers.toml
  sudo dirpost setup --unattended --inside 10.0.0.0/8,192.168.0.0/16
  dirpost setup --dir ~/mail --port-base 10000`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.example {
				_, err := io.WriteString(std.out, exampleAnswers())
				return err
			}
			if o.dir != "" {
				dir, err := filepath.Abs(o.dir)
				if err != nil {
					return err
				}
				*path = filepath.Join(dir, "dirpost.toml")
			}
			whole, err := filepath.Abs(*path)
			if err != nil {
				return err
			}
			for _, u := range []string{flags.Database.URL, flags.Database.OwnerURL} {
				if withoutPassword(u) != u {
					return errors.New("--database-url, --database-owner-url: everybody on this host sees a password on a command line: name a file by passfile=/PATH, or give the URL in a file of answers")
				}
			}
			s, err := newSetup(whole, o, &flags, std)
			if err != nil {
				return err
			}
			return s.run(c.Context())
		},
	}
	c.Flags().SortFlags = false
	c.Flags().StringVar(&o.answers, "answers", "", "file with answers (TOML); nothing is asked")
	c.Flags().BoolVar(&o.example, "answers-example", false, "print such a file, with every answer explained")
	c.Flags().BoolVar(&o.unattended, "unattended", false, "ask nothing: answers are in flags, and in the configuration that is there")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "try all answers, show what would be done, and change nothing")
	c.Flags().BoolVar(&o.asJSON, "json", false, "what was done as one JSON object; nothing is asked")
	c.Flags().StringVar(&o.dir, "dir", "", "directory for the configuration, keys and a private database, instead of /etc/dirpost")
	answers := pflag.NewFlagSet("answers", pflag.ContinueOnError)
	answers.SortFlags = false
	flags.flags(answers)
	c.Flags().AddFlagSet(answers)
	return c
}

// setupOptions are how setup goes about it.
type setupOptions struct {
	answers, dir                        string
	example, unattended, dryRun, asJSON bool
}

// setup is one run of `dirpost setup`.
type setup struct {
	setupOptions
	path     string // of the configuration
	packaged bool   // it is that of the package
	std      streams
	say      io.Writer     // what people read while it goes on
	ask      *asker        // nil: nobody is asked
	flags    *setupAnswers // answers of the command line and the file, which are not asked for
	owner    account       // who serves

	text    []byte // of the configuration that is there, nil for none
	present *File  // the same
	a       setupAnswers
	file    *File // what the answers come to, with secrets that are not written yet
	log     *slog.Logger
	dns     *resolver.Resolver

	private      privateDatabase
	bindPassword string // "": as the file says that the configuration refers to
	bindTried    string // the reference whose password was offered already
	sealingKey   []byte // a new one, in base64; nil: there is one
	admin        join.Request
	prospect     *join.Prospect // nil: joined already, or nothing to join
	authorities  string         // of the domain, to be trusted, PEM
	shownCA      string         // what a server has shown and somebody trusts, PEM
	wantsCA      bool           // the certificates of the servers are from nobody whom we know
	databaseURL  string         // to connect with now, a password in it
	ownerURL     string
	staged       []stagedFile
	snapshot     *directory.Snapshot
	result       setupResult
}

// setupResult is what --json prints.
type setupResult struct {
	Config   string              `json:"config"`
	DryRun   bool                `json:"dry_run,omitempty"`
	Changed  bool                `json:"changed"`       // the configuration
	Changes  []setupChange       `json:"changes"`       // keys of it
	Done     []string            `json:"done"`          // or what would be
	Notes    []string            `json:"notes"`         // what somebody should look at
	Census   []directory.Census  `json:"census"`        // who has a mailbox where
	Findings []directory.Finding `json:"findings"`      // mistakes in the directory
	Accepted bool                `json:"accepted"`      // mail is taken for all domains
	Records  []dnsRecord         `json:"records"`       // to publish
	Next     string              `json:"next"`          // the command that is left to do
	CSR      string              `json:"csr,omitempty"` // file of the request
}

// setupChange is one key of the configuration.
type setupChange struct {
	Key string `json:"key"`
	Is  string `json:"is"` // "" is taken away
}

// newSetup looks at what is there, and puts the answers together.
func newSetup(path string, o setupOptions, flags *setupAnswers, std streams) (*setup, error) {
	s := &setup{setupOptions: o, path: path, packaged: path == defaultConfig, std: std, say: std.out, log: newLogger(LogSection{Level: "error", Format: "text"}, std.err)}
	s.result = setupResult{Config: path, DryRun: o.dryRun, Changes: []setupChange{}, Done: []string{}, Notes: []string{}, Census: []directory.Census{}, Findings: []directory.Finding{}, Records: []dnsRecord{}}
	if o.asJSON {
		s.say = std.err
	}
	if o.answers == "" && !o.unattended && !o.asJSON && isTerminal(std.in) {
		s.ask = &asker{std, s.say}
	}
	if s.packaged && os.Geteuid() != 0 {
		return nil, fmt.Errorf("%s belongs to root: run this with sudo, or name a directory of your own with --dir", path)
	}
	if !s.packaged && len(path) > maxSocketDir {
		return nil, fmt.Errorf("%s is too long for a Unix socket beside it: choose a shorter directory", path)
	}
	var err error
	if s.owner, err = serverAccount(s.packaged); err != nil {
		return nil, err
	}
	s.text, err = os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.text = nil
	case err != nil:
		return nil, err
	default:
		if s.present, err = parseConfig(s.text); err != nil {
			return nil, fmt.Errorf("%s: %w: correct it, or move it away to begin anew", path, err)
		}
	}
	s.flags = &setupAnswers{}
	if o.answers != "" {
		if s.flags, err = readAnswers(o.answers); err != nil {
			return nil, err
		}
	}
	s.flags.override(flags)
	s.private = s.privateDatabase()
	if s.present != nil {
		s.a = *presentAnswers(s.present, path, s.flags.Directory.Name)
		if s.private.url(ownServe) == s.present.Database.URL {
			s.a.Database = setupDatabase{Kind: databasePrivate}
		}
		s.a.override(s.flags)
		return s, s.mayChange()
	}
	s.a.override(s.flags)
	return s, nil
}

// mayChange refuses answers that setup does not know how to carry out where there is
// a configuration.
func (s *setup) mayChange() error {
	if s.flags.Listen != "" || s.flags.PortBase != 0 {
		if want := s.listeners(); want != listenersOf(s.present) {
			return fmt.Errorf("listen, port_base: there is a configuration: change address in the sections [[listener]] of %s", s.path)
		}
	}
	if _, ok := s.present.Directory[s.a.Directory.Name]; !ok {
		return fmt.Errorf("directory.name: the directory is %s, and its name is part of every mailbox's key: leave it (another directory is added by hand: docs/connect-active-directory.md)", strings.Join(s.present.names(), ", "))
	}
	return nil
}

// run asks, tries, does and reports.
func (s *setup) run(ctx context.Context) error {
	if s.ask != nil {
		s.greet()
	}
	for i, q := range s.questions() {
		fmt.Fprintf(s.say, "\n%d. %s\n", i+1, q.title)
		if err := s.answer(ctx, q); err != nil {
			return err
		}
	}
	if err := s.complete(); err != nil {
		return err
	}
	s.reportPeople()
	if err := s.settle(ctx); err != nil {
		return err
	}
	if s.dryRun {
		return s.reportPlan()
	}
	if err := s.apply(ctx); err != nil {
		return err
	}
	return s.report(ctx)
}

// A question is one of the five. The answers to it stand in setup.a.
type question struct {
	title string
	ask   func(ctx context.Context) error // asks somebody, with what is there as the default
	try   func(ctx context.Context) error // tries the answer, and says what it has found
}

func (s *setup) questions() []question {
	return []question{
		{"Domains and host", s.askNames, s.tryNames},
		{"Directory", s.askDirectory, s.tryDirectory},
		{"Database", s.askDatabase, s.tryDatabase},
		{"Networks inside", s.askInside, s.tryInside},
		{"Certificate", s.askCertificate, s.tryCertificate},
	}
}

// answer has a question answered so that the answer works.
func (s *setup) answer(ctx context.Context, q question) error {
	notes := len(s.result.Notes)
	for {
		s.result.Notes = s.result.Notes[:notes] // those of a wrong answer
		if s.ask != nil {
			if err := q.ask(ctx); err != nil {
				return err
			}
		}
		err := s.build()
		if err == nil {
			err = q.try(ctx)
		}
		if ctx.Err() != nil {
			return errors.New("interrupted; nothing was changed")
		}
		if err == nil || s.ask == nil {
			return err
		}
		fmt.Fprintf(s.say, "   ✗ %s\n", indent(err.Error()))
		s.flags = &setupAnswers{} // what they say is the default from now on
	}
}

func (s *setup) ok(format string, args ...any) {
	fmt.Fprintf(s.say, "   ✓ %s\n", indent(fmt.Sprintf(format, args...)))
}

// note says what is no mistake of the answer and should be looked at.
func (s *setup) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.result.Notes = append(s.result.Notes, text)
	fmt.Fprintf(s.say, "   ! %s\n", indent(text))
}

// printResult prints the JSON object.
func (s *setup) printResult() error {
	e := json.NewEncoder(s.std.out)
	e.SetEscapeHTML(false)
	return e.Encode(&s.result)
}
