package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"dirpost/auth/apppassword"
	"dirpost/auth/notice"
	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/logging"
	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
)

// AppPasswordsSection is [auth.app_passwords].
type AppPasswordsSection struct {
	Max     int      `toml:"max"`
	MaxLife Duration `toml:"max_life"`
}

func (a AppPasswordsSection) config() apppassword.Config {
	return apppassword.Config{Max: a.Max, MaxLife: time.Duration(a.MaxLife)}
}

// appPasswords are the app passwords in db; nil where there shall be none.
func (f *File) appPasswords(db *postgres.DB, hints apppassword.Hinter, events event.Sink, log *slog.Logger) *apppassword.Store {
	if f.Auth.AppPasswords.Max == 0 {
		return nil
	}
	return apppassword.New(f.Auth.AppPasswords.config(), db, hints, events, log)
}

// buildAppPasswords opens the app passwords, and keeps them up.
func (n *node) buildAppPasswords() *apppassword.Store {
	store := n.file.appPasswords(n.db, n.bus, n.events, n.log)
	n.appPasswords = store
	if store != nil {
		n.back = append(n.back, part{"app passwords", func(ctx context.Context) error { return store.Run(ctx, n.known) }})
	}
	return store
}

// known reports whether a person is in the directory, as far as that can be said: of
// a directory that is away or not in the configuration it is not known who has left.
func (n *node) known(person directory.Key) bool {
	s := n.live.Snapshot()
	name, _, _ := strings.Cut(string(person), ":")
	if _, ok := n.file.Directory[name]; !ok || !s.Ready() || s.Stale() {
		return true
	}
	return s.ByKey(person) != nil
}

// appPasswordCommand is `dirpost auth app-password`.
func appPasswordCommand(path *string, std streams) *cobra.Command {
	c := &cobra.Command{
		Use: "app-password", Short: "Make, list and revoke the passwords of mail programs",
		Long: `An app password is for one mail program of a person. It is taken for mail only, by
every protocol or by some, and is revoked without touching the password of the
domain. Whoever has one needs no password of the domain in a telephone.

PERSON is a login name, an address, or a key.`,
	}
	c.AddCommand(appPasswordCreateCommand(path, std), appPasswordListCommand(path, std), appPasswordRevokeCommand(path, std))
	return c
}

// withAppPasswords opens the app passwords for a command, and finds out who a person
// is.
func withAppPasswords(ctx context.Context, path, person string, std streams, f func(context.Context, *apppassword.Store, *directory.Entry, directory.Key) error) error {
	return withReplica(ctx, path, std, func(ctx context.Context, file *File, db *postgres.DB) error {
		log := newLogger(file.Log, std.err)
		store := file.appPasswords(db, commandHints{ctx, db, log}, logging.NewSink(log), log)
		if store == nil {
			return errors.New("there are no app passwords: max in [auth.app_passwords] is 0")
		}
		if file.Auth.Page.Notices {
			store.Issued = func(ctx context.Context, p apppassword.Password) {
				if err := notice.New(db, log).Add(ctx, p.Person, notice.AppPassword, strconv.Quote(p.Name)+", by an "+p.By); err != nil {
					log.ErrorContext(ctx, "a person is not told of a new app password", "user", string(p.Person), "err", err)
				}
			}
		}
		key, err := (&storeTools{file: file, db: db}).key(ctx, person)
		if err != nil {
			return err
		}
		s, err := replicaOf(ctx, file, db)
		if err != nil {
			return err
		}
		return f(ctx, store, s.ByKey(directory.Key(key)), directory.Key(key))
	})
}

// operator is who runs the command, for the audit.
func operator() string {
	if u, err := user.Current(); err == nil {
		return "administrator " + u.Username
	}
	return "administrator"
}

func appPasswordCreateCommand(path *string, std streams) *cobra.Command {
	r := apppassword.Request{}
	var expires string
	asJSON := false
	c := &cobra.Command{
		Use: "create PERSON", Short: "Make an app password and print it, this once", Args: cobra.ExactArgs(1),
		Example: "  dirpost auth app-password create alice --name Phone --service imap,submission --expires 365d",
		RunE: func(c *cobra.Command, args []string) error {
			var life Duration
			if expires != "" {
				if err := life.UnmarshalText([]byte(expires)); err != nil || life == 0 {
					return fmt.Errorf("--expires: %q is no time span such as 365d", expires)
				}
			}
			return withAppPasswords(c.Context(), *path, args[0], std, func(ctx context.Context, s *apppassword.Store, e *directory.Entry, key directory.Key) error {
				if e == nil || e.Kind != directory.KindPerson {
					return fmt.Errorf("%s is no person of the directory", args[0])
				}
				r.Person, r.By = key, operator()
				if life != 0 {
					r.Expires = time.Now().Add(time.Duration(life))
				}
				secret, p, err := s.Issue(ctx, r)
				if err != nil {
					return err
				}
				return printIssued(secret, p, e.Primary, asJSON, std)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&r.Name, "name", "", "what its owner calls the mail program or device (needed)")
	f.StringSliceVar(&r.Services, "service", nil, "what it may be used for: imap, pop3, submission, sieve; all of them if missing")
	f.StringVar(&expires, "expires", "", "how long it lives, such as 365d; as long as the configuration allows if missing")
	f.BoolVar(&asJSON, "json", false, "one JSON object")
	_ = c.MarkFlagRequired("name") // fails for a flag that does not exist
	return c
}

// appPasswordJSON is an app password for programs.
type appPasswordJSON struct {
	ID          string     `json:"id"`
	Person      string     `json:"person"`
	Name        string     `json:"name"`
	Services    []string   `json:"services"`
	Created     time.Time  `json:"created"`
	By          string     `json:"by"`
	Expires     *time.Time `json:"expires,omitempty"`
	LastUsed    *time.Time `json:"last_used,omitempty"`
	LastClient  string     `json:"last_client,omitempty"`
	LastService string     `json:"last_service,omitempty"`
	Password    string     `json:"password,omitempty"` // of create only
}

func jsonOf(p *apppassword.Password) appPasswordJSON {
	j := appPasswordJSON{ID: p.ID.String(), Person: string(p.Person), Name: p.Name, Services: p.ServiceNames(), Created: p.Created, By: p.By, LastService: p.LastService}
	if !p.Expires.IsZero() {
		j.Expires = &p.Expires
	}
	if !p.LastUsed.IsZero() {
		j.LastUsed, j.LastClient = &p.LastUsed, p.LastClient.String()
	}
	return j
}

func printIssued(secret logging.Secret, p *apppassword.Password, a envelope.Address, asJSON bool, std streams) error {
	if asJSON {
		j := jsonOf(p)
		j.Password = string(secret)
		return json.NewEncoder(std.out).Encode(j)
	}
	if _, err := fmt.Fprintln(std.out, string(secret)); err != nil {
		return err
	}
	until := "until it is revoked"
	if !p.Expires.IsZero() {
		until = "until " + p.Expires.Local().Format("2006-01-02 15:04")
	}
	_, err := fmt.Fprintf(std.err, "For %q of %s, by %s, %s. It cannot be shown again.\n", p.Name, a, strings.Join(p.ServiceNames(), ", "), until)
	return err
}

func appPasswordListCommand(path *string, std streams) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use: "list PERSON", Short: "List the app passwords of a person", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withAppPasswords(c.Context(), *path, args[0], std, func(ctx context.Context, s *apppassword.Store, _ *directory.Entry, key directory.Key) error {
				all, err := s.List(ctx, key)
				if err != nil {
					return err
				}
				return printAppPasswords(all, asJSON, std)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

func printAppPasswords(all []apppassword.Password, asJSON bool, std streams) error {
	if asJSON {
		enc := json.NewEncoder(std.out)
		for i := range all {
			if err := enc.Encode(jsonOf(&all[i])); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(std.out, "There are none: 'dirpost auth app-password create' makes one.")
		return err
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tSERVICES\tCREATED\tEXPIRES\tLAST USED")
	now := time.Now()
	for i := range all {
		p := &all[i]
		expires, used := "never", "never"
		if !p.Expires.IsZero() {
			expires = p.Expires.Local().Format(time.DateOnly)
		}
		if p.Expired(now) {
			expires += " (expired)"
		}
		if !p.LastUsed.IsZero() {
			used = fmt.Sprintf("%s, %s from %s", p.LastUsed.Local().Format("2006-01-02 15:04"), p.LastService, p.LastClient)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.ID, p.Name, strings.Join(p.ServiceNames(), " "), p.Created.Local().Format(time.DateOnly), expires, used)
	}
	return w.Flush()
}

func appPasswordRevokeCommand(path *string, std streams) *cobra.Command {
	everything := false
	c := &cobra.Command{
		Use: "revoke PERSON [NAME-OR-ID...]", Short: "Revoke app passwords, and end the sessions that were opened with them", Args: cobra.MinimumNArgs(1),
		Example: "  dirpost auth app-password revoke alice Phone\n  dirpost auth app-password revoke alice --all",
		RunE: func(c *cobra.Command, args []string) error {
			if everything == (len(args) > 1) {
				return errors.New("name those to revoke, or say --all")
			}
			return withAppPasswords(c.Context(), *path, args[0], std, func(ctx context.Context, s *apppassword.Store, _ *directory.Entry, key directory.Key) error {
				ids, err := chosen(ctx, s, key, args[1:], everything)
				if err != nil {
					return err
				}
				if len(ids) > 0 {
					err = s.Revoke(ctx, key, operator(), ids...)
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(std.out, "%d revoked. Sessions that were opened with them end now.\n", len(ids))
				return err
			})
		},
	}
	c.Flags().BoolVar(&everything, "all", false, "all app passwords of the person")
	return c
}

// chosen are the IDs of those passwords of a person that are named, by name in any
// case or ID.
func chosen(ctx context.Context, s *apppassword.Store, person directory.Key, names []string, everything bool) ([]apppassword.ID, error) {
	all, err := s.List(ctx, person)
	if err != nil {
		return nil, err
	}
	var ids []apppassword.ID
	found := make(map[string]bool)
	for _, p := range all {
		match := everything
		for _, name := range names {
			if strings.EqualFold(name, p.Name) || name == p.ID.String() {
				match, found[name] = true, true
			}
		}
		if match {
			ids = append(ids, p.ID)
		}
	}
	for _, name := range names {
		if !found[name] {
			return nil, fmt.Errorf("%s: %w", name, apppassword.ErrNotFound)
		}
	}
	return ids, nil
}
