package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"dirpost/directory/join"
	"dirpost/directory/ldap"
	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
)

// joinFlags are what several commands of join have.
type joinFlags struct {
	directory    string
	server       string
	user         string
	passwordFile string
}

// joinCommand is `dirpost join`.
func joinCommand(path *string, std streams) *cobra.Command {
	var f joinFlags
	var r join.Request
	var keytab, principal string
	yes, readDeleted := false, false
	c := &cobra.Command{
		Use: "join DOMAIN", Short: "Join a domain of Active Directory, as the account that reads it and judges passwords",
		Long: `Join makes a computer account with the services of mail in a domain, from this
host, with neither Samba nor a certificate: an administrator's password makes a key
once, and Kerberos seals all connections. The password is asked for, or read from
the first line of the input; it is neither sent nor kept.

The account's own keys are sealed in the database with server.sealing_key, for all
nodes of the system, which join once. One of them changes the password from time to
time.

The section of the directory in the configuration has bind = "joined".`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withMember(c.Context(), *path, f, args[0], std, func(ctx context.Context, m *join.Member, file *File) error {
				if r.Host == "" {
					r.Host = file.Server.Name
				}
				if readDeleted && keytab != "" {
					return errors.New("--read-deleted needs an administrator, and --keytab asks for none: run 'dirpost join read-deleted' afterwards")
				}
				a, err := joinWith(ctx, c, m, f, &r, args[0], keytab, principal, std)
				if err != nil {
					return err
				}
				printAccount(a, std.out)
				if readDeleted { // joined it is either way
					r.Command = readDeletedAgain(f)
					err = allowDeleted(ctx, m, r, std)
				}
				if d := file.Directory[m.Directory]; d.Domain == "" && a.NetBIOS != "" {
					fmt.Fprintf(std.out, "People log in as %s\\NAME too, with this in [directory.%s]: domain = %q\n", a.NetBIOS, m.Directory, a.NetBIOS)
				}
				return errors.Join(err, trust(ctx, m, yes, std))
			})
		},
	}
	c.PersistentFlags().StringVar(&f.directory, "directory", "", "name of the directory in the configuration, if several are joined")
	c.PersistentFlags().StringVar(&f.server, "server", "", "domain controller to ask, HOST or HOST:PORT, instead of those of the configuration")
	c.Flags().StringVar(&r.Name, "name", "", "name of the computer; the first label of the host if missing")
	c.Flags().StringVar(&r.OU, "ou", "", "DN of the container for the account; the domain's one for computers if missing")
	c.Flags().StringVar(&r.Host, "host", "", "full name of the mail host; server.name if missing")
	c.Flags().StringSliceVar(&r.SharedNames, "shared-name", nil, "full name that several nodes have together; may be given several times")
	c.Flags().BoolVar(&r.Reuse, "reuse", false, "take over an account that exists")
	c.Flags().BoolVar(&readDeleted, "read-deleted", false, "let the account read deleted entries of the domain (CN=Deleted Objects), so that deletions are told at once and need not be found by comparing")
	c.Flags().StringVar(&keytab, "keytab", "", "take a keytab that was made elsewhere, and make no account")
	c.Flags().StringVar(&principal, "principal", "", "with --keytab: the account in it, if there are several")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "trust the certificate authorities of the domain without asking")
	adminFlags(c, &f)
	c.AddCommand(joinStatusCommand(path, &f, std), joinRotateCommand(path, &f, std), joinLeaveCommand(path, &f, std), joinTrustCommand(path, &f, std), joinKeytabCommand(path, &f, std),
		joinReadDeletedCommand(path, &f, std))
	return c
}

// adminFlags say who the administrator is.
func adminFlags(c *cobra.Command, f *joinFlags) {
	c.Flags().StringVarP(&f.user, "user", "u", "Administrator", `who has the right to: NAME, DOMAIN\NAME or NAME@DOMAIN`)
	c.Flags().StringVar(&f.passwordFile, "password-file", "", "file with the password of --user; - is the input")
}

// joinWith joins, or takes a keytab. Afterwards r says who the administrator is.
func joinWith(ctx context.Context, c *cobra.Command, m *join.Member, f joinFlags, r *join.Request, domain, keytab, principal string, std streams) (*join.Stored, error) {
	if keytab != "" {
		b, err := Secret{ref: "file:" + keytab}.ResolveBytes()
		if err != nil {
			return nil, err
		}
		return m.Import(ctx, domain, principal, r.Host, b)
	}
	var err error
	r.Domain, r.User = domain, f.user
	r.Command = strings.Join(append([]string{c.CommandPath(), domain}, flagsOf(c)...), " ")
	if r.Password, err = readPassword(ctx, "Password of "+f.user+": ", f.passwordFile, std); err != nil {
		return nil, err
	}
	return m.Join(ctx, *r)
}

// flagsOf are the flags that were given, for a command that somebody may type
// again.
func flagsOf(c *cobra.Command) []string {
	var all []string
	for _, name := range []string{"config", "directory", "server", "user", "name", "ou", "host", "shared-name", "password-file", "read-deleted"} {
		f := c.Flag(name)
		if f == nil || !f.Changed {
			continue
		}
		if f.Value.Type() == "bool" {
			all = append(all, "--"+name+"="+f.Value.String())
			continue
		}
		value := strings.Trim(f.Value.String(), "[]")
		if strings.ContainsAny(value, ` \,`) {
			value = "'" + value + "'"
		}
		all = append(all, "--"+name+" "+value)
	}
	return all
}

// withMember opens the membership of the directory that a command is about: that
// of the flag, else the one that is joined.
func withMember(ctx context.Context, path string, f joinFlags, domain string, std streams, do func(context.Context, *join.Member, *File) error) error {
	file, err := readConfig(path)
	if err != nil {
		return err
	}
	name, err := file.joinedDirectory(f.directory, domain)
	if err != nil {
		return err
	}
	sealer, err := file.sealer()
	if err != nil {
		return err
	}
	log := newLogger(LogSection{Level: "warn", Format: file.Log.Format}, std.err)
	db, err := openDatabase(ctx, file, log)
	if err != nil {
		return err
	}
	defer db.Close()
	d := file.Directory[name]
	if f.server != "" {
		d.Discover, d.URLs, d.ServerName, d.KDC = "", []string{"ldap://" + f.server}, "", nil
		file.Directory[name] = d
	}
	client, err := file.client(name, true, log)
	if err != nil {
		return err
	}
	defer client.Close()
	store := join.NewStore(db, sealer, commandHints{ctx, db, log})
	return do(ctx, &join.Member{Store: store, Directory: name, Controller: client, Node: fmt.Sprintf("command/%d", db.NewID()), Log: log, Spread: join.Spread}, file)
}

// joinedDirectory is the name of the directory that a command of join is about.
func (f *File) joinedDirectory(name, domain string) (string, error) {
	var all, of []string
	for _, n := range f.names() {
		if d := f.Directory[n]; d.Bind == ldap.BindJoined {
			all = append(all, n)
			if strings.EqualFold(ldap.DNSDomain(d.Base), strings.TrimSuffix(domain, ".")) {
				of = append(of, n)
			}
		}
	}
	switch {
	case name != "" && f.Directory[name].Bind == ldap.BindJoined:
		return name, nil
	case name != "":
		return "", fmt.Errorf("there is no section [directory.%s] with bind = \"joined\"", name)
	case len(of) == 1:
		return of[0], nil
	case domain == "" && len(all) == 1:
		return all[0], nil
	case len(all) == 0:
		return "", fmt.Errorf("no directory is to be joined: write into the section of one\n  bind = \"joined\"\n  discover = %q\n  base = %q", "corp.example", "DC=corp,DC=example")
	case domain != "" && len(of) == 0:
		return "", fmt.Errorf("no directory with bind = \"joined\" has a base in %s: those are %s", domain, strings.Join(all, ", "))
	}
	return "", fmt.Errorf("several directories are joined (%s): --directory names one", strings.Join(all, ", "))
}

// printAccount says what was joined.
func printAccount(a *join.Stored, out io.Writer) {
	k, _ := a.Current()
	fmt.Fprintf(out, "Joined %s (%s) as %s@%s.\n", a.NetBIOS, a.Domain, a.Principal, a.Realm)
	fmt.Fprintf(out, "  account     %s\n", a.DN)
	fmt.Fprintf(out, "  controller  %s, Windows %s\n", a.Controller, join.LevelName(a.Level))
	fmt.Fprintf(out, "  domain SID  %s\n", a.DomainSID)
	fmt.Fprintf(out, "  key         number %d, AES, sealed in the database for all nodes\n", k.KVNO)
	fmt.Fprintf(out, "  services    %s\n", strings.Join(a.Services, " "))
}

// trust shows the authorities of the domain, and keeps those that are agreed to.
func trust(ctx context.Context, m *join.Member, yes bool, std streams) error {
	all, err := m.Authorities(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(std.out, "The domain has no certificate authority of its own. Where its controllers have no certificate, passwords are judged by Kerberos.")
		return err
	}
	fmt.Fprintln(std.out, "The domain says, over the sealed connection, that these authorities sign its certificates:")
	text := ""
	for _, a := range all {
		fmt.Fprintf(std.out, "  %s, until %s\n    SHA-256 %s\n", a.Certificate.Subject, a.Certificate.NotAfter.UTC().Format(time.DateOnly), a.Fingerprint)
		text += a.PEM()
	}
	if !yes {
		if !isTerminal(std.in) {
			_, err := fmt.Fprintln(std.out, "They are not trusted: 'dirpost join trust --yes' does.")
			return err
		}
		if yes, err = confirm(ctx, "Trust them for the servers of this directory? [y/N] ", std); err != nil || !yes {
			return err
		}
	}
	if err := m.Store.SetCA(ctx, m.Directory, text); err != nil {
		return err
	}
	_, err = fmt.Fprintln(std.out, "They are trusted from now on, unless the configuration names others (ca).")
	return err
}

func joinTrustCommand(path *string, f *joinFlags, std streams) *cobra.Command {
	yes := false
	c := &cobra.Command{
		Use: "trust", Short: "Trust the certificate authorities of the domain", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withMember(c.Context(), *path, *f, "", std, func(ctx context.Context, m *join.Member, _ *File) error {
				return trust(ctx, m, yes, std)
			})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "without asking")
	return c
}

func joinRotateCommand(path *string, f *joinFlags, std streams) *cobra.Command {
	return &cobra.Command{
		Use: "rotate", Short: "Change the password of the account now", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withMember(c.Context(), *path, *f, "", std, func(ctx context.Context, m *join.Member, _ *File) error {
				fmt.Fprintf(std.err, "The new key is known to all nodes in %v, and goes to the domain then.\n", m.Spread)
				a, err := m.Rotate(ctx)
				if err != nil {
					return err
				}
				k, _ := a.Current()
				_, err = fmt.Fprintf(std.out, "%s has the key number %d. Older ones are kept as long as tickets live.\n", a.Principal, k.KVNO)
				return err
			})
		},
	}
}

func joinLeaveCommand(path *string, f *joinFlags, std streams) *cobra.Command {
	disable, keep := false, false
	c := &cobra.Command{
		Use: "leave", Short: "Delete the computer account, and forget its keys", Args: cobra.NoArgs,
		Long: `Leave deletes the computer account, with an administrator's right, and forgets the
keys. Nodes that run go on with what they know until they start again: then the
directory cannot be read, and nobody can log in.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return withMember(c.Context(), *path, *f, "", std, func(ctx context.Context, m *join.Member, _ *File) error {
				how, r := join.LeaveDelete, join.Request{User: f.user}
				switch {
				case disable && keep:
					return errors.New("--disable and --keep-account exclude each other")
				case keep:
					how = join.LeaveAlone
				case disable:
					how = join.LeaveDisable
				}
				if how != join.LeaveAlone {
					if _, err := m.Store.Load(ctx, m.Directory); err != nil {
						return err
					}
					var err error
					if r.Password, err = readPassword(ctx, "Password of "+f.user+": ", f.passwordFile, std); err != nil {
						return err
					}
				}
				if err := m.Leave(ctx, how, r); err != nil {
					return err
				}
				_, err := fmt.Fprintln(std.out, "The keys are forgotten.")
				return err
			})
		},
	}
	c.Flags().BoolVar(&disable, "disable", false, "disable the account instead of deleting it")
	c.Flags().BoolVar(&keep, "keep-account", false, "leave the account as it is, and only forget its keys")
	adminFlags(c, f)
	return c
}

func joinKeytabCommand(path *string, f *joinFlags, std streams) *cobra.Command {
	out := ""
	c := &cobra.Command{
		Use: "keytab", Short: "Write the keys into a file, for klist -k or another service of this host", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withMember(c.Context(), *path, *f, "", std, func(ctx context.Context, m *join.Member, _ *File) error {
				a, err := m.Store.Load(ctx, m.Directory)
				if err != nil {
					return err
				}
				b, err := a.Keytab()
				if err != nil {
					return err
				}
				file, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if err != nil {
					return err
				}
				_, err = file.Write(b)
				return errors.Join(err, file.Close())
			})
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "", "file to make; it must not exist")
	_ = c.MarkFlagRequired("out") // it exists
	return c
}

// readPassword reads a password: from a file, the terminal without echo, or the
// first line of the input.
func readPassword(ctx context.Context, prompt, file string, std streams) (string, error) {
	if file != "" && file != "-" {
		return Secret{ref: "file:" + file}.Resolve()
	}
	if file == "" && isTerminal(std.in) {
		return askSecret(ctx, prompt, std)
	}
	line, err := readLine(ctx, std.in)
	if err == nil && line == "" {
		err = errors.New("the first line of the input is empty")
	}
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return line, nil
}

// commandHints publishes for a command that is no node.
type commandHints struct {
	ctx context.Context // of the command: the interface has none
	db  *postgres.DB
	log *slog.Logger
}
