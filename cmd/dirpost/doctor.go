package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"dirpost/directory"
	"dirpost/directory/ldap"
	"dirpost/internal/bus"
	"dirpost/internal/postgres"
	"dirpost/mta/queue"

	"github.com/spf13/cobra"
)

// A finding is what doctor says about one thing.
type finding struct {
	Subject string `json:"subject"`
	State   string `json:"state"` // ok, warning, error
	Text    string `json:"text"`
	Do      string `json:"do,omitempty"`
}

// doctor collects findings.
type doctor struct {
	file *File
	path string
	all  []finding
}

func (d *doctor) ok(subject, format string, args ...any) {
	d.all = append(d.all, finding{subject, "ok", fmt.Sprintf(format, args...), ""})
}

func (d *doctor) warn(subject, do, format string, args ...any) {
	d.all = append(d.all, finding{subject, "warning", fmt.Sprintf(format, args...), do})
}

func (d *doctor) bad(subject, do string, err error) {
	d.all = append(d.all, finding{subject, "error", err.Error(), do})
}

// doctorCommand is `dirpost doctor`.
func doctorCommand(path *string, std streams) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use: "doctor", Short: "Look at everything a node needs, and say what is wrong",
		Long: `Doctor looks at the configuration, certificates, database, directory, listeners
and queue, and says what to do about what it finds. The exit status is 0 when all
is well, 1 with an error, 2 with warnings only.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d := &doctor{path: *path}
			d.examine(c.Context(), std)
			return d.report(asJSON, std)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

// examine looks at one thing after the other.
func (d *doctor) examine(ctx context.Context, std streams) {
	var err error
	if d.file, err = readConfig(d.path); err != nil {
		d.bad("configuration", "'dirpost config example' shows every key", err)
		return
	}
	if err := d.file.checkFiles(); err != nil {
		d.bad("secrets and certificates", "the server must be able to read these files, and nobody else the secrets", err)
	} else {
		d.ok("configuration", "%s, with its secrets and certificates", d.path)
	}
	d.certificates()
	log := newLogger(LogSection{Level: "error", Format: d.file.Log.Format}, std.err)
	for _, name := range d.file.names() {
		d.directory(ctx, name)
	}
	d.doors()
	d.issuers(ctx)
	d.clientCertificates(ctx)
	d.listeners(ctx)
	db, err := postgres.Open(ctx, d.file.databaseConfig(), log)
	if err != nil {
		d.bad("database", "is PostgreSQL running, and is database.url right?", err)
		return
	}
	defer db.Close()
	d.database(ctx, db)
	d.issued(ctx, db)
	d.replica(ctx, db)
	d.kerberos(ctx, db)
	d.queue(ctx, db)
}

// certificates looks at the time they have left.
func (d *doctor) certificates() {
	for _, c := range d.file.TLS.Certificate {
		pair, err := tls.LoadX509KeyPair(c.Chain, c.Key)
		if err != nil {
			continue // said by checkFiles
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			d.bad("certificate", "replace it", fmt.Errorf("%s: %w", c.Chain, err))
			continue
		}
		left := time.Until(leaf.NotAfter)
		switch {
		case left <= 0:
			d.bad("certificate", "replace the file; nodes read it by themselves", fmt.Errorf("%s has expired on %s", c.Chain, leaf.NotAfter.UTC().Format(time.DateOnly)))
		case left < 14*24*time.Hour:
			d.warn("certificate", "renew it; nodes read the new file by themselves", "%s expires in %s", c.Chain, span(left))
		default:
			d.ok("certificate", "%s for %s, expires in %s", c.Chain, strings.Join(leaf.DNSNames, ", "), span(left))
		}
		if err := leaf.VerifyHostname(d.file.Server.Name); err != nil {
			d.warn("certificate", "clients that look for "+d.file.Server.Name+" will not trust it", "%s is not for %s", c.Chain, d.file.Server.Name)
		}
	}
}

// directory asks a directory something with the server's account.
func (d *doctor) directory(ctx context.Context, name string) {
	client, err := d.file.client(name, true, nil)
	if err != nil {
		d.bad("directory "+name, "see the section [directory."+name+"]", err)
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	d.file.recall(ctx, client, slog.New(slog.DiscardHandler))
	if err := d.file.setMachine(ctx, client, slog.New(slog.DiscardHandler)); err != nil {
		d.bad("directory "+name, "'dirpost join status' says more", err)
		return
	}
	if err := client.Check(ctx); err != nil {
		d.bad("directory "+name, d.file.Directory[name].hint()+" Mail goes on with what was read last; nobody can log in", err)
		return
	}
	// With a GSSAPI bind, what is read does not show whether people can log in.
	if err := client.CheckLogin(ctx); err != nil {
		d.bad("directory "+name, "is ca right, and does the server take StartTLS? Nobody can log in", err)
		return
	}
	d.servers(ctx, name, client)
	d.lockout(ctx, name, client)
}

// servers asks each server of a directory, and not only the one that is used.
func (d *doctor) servers(ctx context.Context, name string, client *ldap.Client) {
	all, err := client.AskServers(ctx)
	if err != nil {
		d.bad("directory "+name, "are the resolvers of this host those of the domain?", err)
		return
	}
	var up []string
	for _, s := range all {
		switch {
		case s.State == ldap.ServerDown:
			d.warn("directory "+name, "mend it: while it is away, the others are used", "%s does not answer (%s): %s", s.URL, s.Use, s.LastError)
		case !slices.Contains(up, s.URL):
			up = append(up, s.URL)
		}
	}
	choice, err := client.Choice(ctx)
	if err != nil {
		d.bad("directory "+name, "does it still answer?", err)
		return
	}
	for _, note := range choice.Notes {
		d.warn("directory "+name, "see docs/attributes.md", "%s", note)
	}
	d.ok("directory "+name, "answers at %s, is read as %s", strings.Join(up, ", "), choice.Profile)
}

// hint names what the account of a directory stands on.
func (d DirectorySection) hint() string {
	switch d.Bind {
	case ldap.BindJoined:
		return "'dirpost join status' says how the account of this system stands."
	case ldap.BindGSSAPI:
		return "are urls, principal, realm and keytab right, and the clock of this host?"
	}
	return "are urls, ca, bind_dn and bind_password right?"
}

// here is how a listener is reached from its own host.
func (l *ListenerSection) here() string {
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return l.Address // said by the configuration
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// listeners knocks at the ports of this node.
func (d *doctor) listeners(ctx context.Context) {
	closed := 0
	for _, l := range d.file.Listener {
		dialer := net.Dialer{Timeout: 5 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", l.here())
		if err != nil {
			d.warn("listener", "is 'dirpost serve' running here, with the role "+protocols[l.Protocol]+"?", "%s on %s does not answer: %v", l.Protocol, l.Address, err)
			closed++
			continue
		}
		_ = conn.Close()
	}
	if closed == 0 {
		d.ok("listeners", "all %d answer", len(d.file.Listener))
	}
}

const standbySQL = `
select count(*) filter (where sync_state = 'async'),
       count(*) filter (where sync_state in ('sync', 'quorum'))
  from pg_stat_replication`

// database looks at the schema, the clock and the standbys.
func (d *doctor) database(ctx context.Context, db *postgres.DB) {
	if err := db.CheckSchema(ctx); err != nil {
		d.bad("database", "run 'dirpost migrate'", err)
		return
	}
	d.ok("database", "answers, keeps what it commits, schema up to date")
	var now time.Time
	if err := db.QueryRow(ctx, postgres.Background, `select clock_timestamp()`).Scan(&now); err == nil {
		if off := time.Since(now).Abs(); off > 5*time.Second {
			d.warn("clock", "run an NTP client on both hosts; Dirpost goes by the database's clock", "this host and the database differ by %s", span(off))
		}
	}
	var async, sync int
	if err := db.QueryRow(ctx, postgres.Background, standbySQL).Scan(&async, &sync); err == nil && async > 0 && sync == 0 {
		d.warn("standby", "name it in synchronous_standby_names, or accept that the last moment of mail dies with the primary", "%d standbys, none of them synchronous", async)
	}
}

// replicaOf reads the copy of the directory in the database.
func replicaOf(ctx context.Context, f *File, db *postgres.DB) (*directory.Snapshot, error) {
	live, err := replicaLive(ctx, f, db)
	if err != nil {
		return nil, err
	}
	return live.Snapshot(), nil
}

// replicaLive is replicaOf for what wants a directory that may change; this one does
// not.
func replicaLive(ctx context.Context, f *File, db *postgres.DB) (*directory.Live, error) {
	rules, err := f.rules()
	if err != nil {
		return nil, err
	}
	live := directory.Open(rules)
	log := newLogger(LogSection{Level: "error", Format: "text"}, io.Discard)
	if err := directory.NewFeeder(db, live, nil, bus.New(db, log), "command", log).Load(ctx); err != nil {
		return nil, fmt.Errorf("read the replica of the directory: %w", err)
	}
	return live, nil
}

// replica looks at the copy of the directory in the database.
func (d *doctor) replica(ctx context.Context, db *postgres.DB) {
	s, err := replicaOf(ctx, d.file, db)
	if err != nil {
		d.bad("replica", "see the section [domains], and the database", err)
		return
	}
	d.authGroups(s)
	age, known := s.Age()
	if list := s.Unconfirmed(); s.Ready() && len(list) > 0 {
		d.warn("domains", "look at 'dirpost directory check', then confirm with --accept", "mail for %s waits at its senders", strings.Join(list, ", "))
	}
	switch {
	case !s.Ready():
		d.warn("replica", "does a node with the role directory run?", "nothing was read from the directory yet; mail is deferred")
	case !known || s.Stale():
		d.warn("replica", "does a node with the role directory run, and does the directory answer?", "the directory was not heard of for %s; unknown addresses are deferred", span(age))
	default:
		d.ok("replica", "version %d, confirmed %s ago", s.Version(), span(age))
	}
	reports, err := directory.Reports(ctx, db)
	if err != nil {
		d.bad("replica", "", err)
		return
	}
	for _, r := range reports {
		if r.Problem != "" {
			d.warn("directory "+r.Name, "'dirpost directory status' says more", "cannot be followed: %s", r.Problem)
		}
		if r.Braked > 0 {
			d.warn("directory "+r.Name, "'dirpost directory status' lists them; mend the directory, or 'dirpost directory release "+r.Name+"'", "%d entries are held back since too many would vanish at once", r.Braked)
		}
	}
	if n := s.AmbiguousAddresses() + s.AmbiguousLogins(); n > 0 {
		d.warn("directory", "'dirpost directory check' names them", "%d addresses and login names belong to more than one entry", n)
	}
}

// queue looks at how full it is, and how old.
func (d *doctor) queue(ctx context.Context, db *postgres.DB) {
	counts, err := queue.New(db, queue.Config{}).Counts(ctx)
	if err != nil {
		d.bad("queue", "", err)
		return
	}
	var total int64
	var oldest time.Duration
	for _, c := range counts {
		total += c.Recipients
		if !c.Oldest.IsZero() && c.State != queue.StateHeld {
			oldest = max(oldest, db.Now().Sub(c.Oldest))
		}
	}
	if oldest > 4*time.Hour {
		d.warn("queue", "'dirpost queue list' shows the last answer for each", "%d recipients, the oldest for %s", total, span(oldest))
		return
	}
	d.ok("queue", "%d recipients", total)
}

// report prints the findings and sets the exit status.
func (d *doctor) report(asJSON bool, std streams) error {
	has := func(state string) bool {
		return slices.ContainsFunc(d.all, func(f finding) bool { return f.State == state })
	}
	if asJSON {
		enc := json.NewEncoder(std.out)
		for _, f := range d.all {
			if err := enc.Encode(f); err != nil {
				return err
			}
		}
	} else {
		w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
		for _, f := range d.all {
			fmt.Fprintf(w, "%s\t%s\t%s\n", f.State, f.Subject, strings.ReplaceAll(f.Text, "\n", "; "))
			if f.Do != "" {
				fmt.Fprintf(w, "\t\t→ %s\n", f.Do)
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	switch {
	case has("error"):
		return exitCode(1)
	case has("warning"):
		return exitCode(2)
	}
	return nil
}
