package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
)

// The states of a finding: green, yellow, red, and what could not be looked at.
const (
	stateOK      = "ok"
	stateWarning = "warning"
	stateError   = "error"
	stateUnknown = "unknown"
)

// A finding is what doctor says about one thing.
type finding struct {
	Subject string `json:"subject"`
	State   string `json:"state"`
	Text    string `json:"text"`
	Do      string `json:"do,omitempty"`
}

// doctorOptions are the flags of `dirpost doctor`.
type doctorOptions struct {
	json    bool
	only    []string
	roles   []string
	mailTo  string
	outside string
}

// doctor looks at things. Each check has one of its own, with the findings of it.
type doctor struct {
	doctorOptions
	file   *File
	path   string
	shared *sharedDatabase

	mu  sync.Mutex // guards all: a check that outlives its time may still add to it
	all []finding
}

// sharedDatabase is the database as the checks share it.
type sharedDatabase struct {
	ready  chan struct{} // closed when what follows is settled
	db     *postgres.DB  // nil: it cannot be opened
	err    error         // why not
	schema error         // the schema is not this program's

	gaveUp atomic.Bool // a check was given up, and may use the database still
}

// add adds a finding. A text of several lines becomes one.
func (d *doctor) add(subject, state, do, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, finding{subject, state, strings.ReplaceAll(text, "\n", "; "), do})
}

func (d *doctor) ok(subject, format string, args ...any) {
	d.add(subject, stateOK, "", fmt.Sprintf(format, args...))
}

func (d *doctor) warn(subject, do, format string, args ...any) {
	d.add(subject, stateWarning, do, fmt.Sprintf(format, args...))
}

func (d *doctor) bad(subject, do string, err error) { d.add(subject, stateError, do, err.Error()) }

func (d *doctor) unknown(subject, format string, args ...any) {
	d.add(subject, stateUnknown, "", fmt.Sprintf(format, args...))
}

// findings are those so far.
func (d *doctor) findings() []finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.all)
}

// A check looks at one subject.
type check struct {
	name  string
	limit time.Duration // after which it is given up
	needs bool          // the database, with the schema of this program
	run   func(d *doctor, ctx context.Context)
}

// What a check wants of the database.
const (
	needsNothing = false
	needsSchema  = true
)

// checkNames are the names for --only, in the order of the report.
var checkNames = []string{"configuration", "system", "disk", "certificates", "directory", "logins", "kerberos", "database", "replica", "queue", "ports", "dns", "outbound", "telemetry"}

// checks are all of them, in the order of the report.
func (d *doctor) checks() []check {
	const quick, usual = 10 * time.Second, 25 * time.Second
	all := []check{
		{"configuration", quick, needsNothing, (*doctor).configuration},
		{"configuration", quick, needsNothing, (*doctor).sealed},
		{"system", quick, needsNothing, (*doctor).landlock},
		{"disk", usual, needsNothing, (*doctor).disk},
		{"certificates", quick, needsNothing, (*doctor).certificates},
	}
	if d.file.usesACME() {
		all = append(all, check{"certificates", quick, needsSchema, func(d *doctor, ctx context.Context) { d.issued(ctx, d.shared.db) }})
	}
	for _, name := range d.file.names() {
		all = append(all, check{"directory", 40 * time.Second, needsNothing, func(d *doctor, ctx context.Context) { d.directory(ctx, name) }})
	}
	all = append(all, []check{
		{"logins", quick, needsNothing, func(d *doctor, _ context.Context) { d.doors() }},
		{"logins", quick, needsNothing, func(d *doctor, _ context.Context) { d.countries() }},
		{"logins", usual, needsNothing, (*doctor).issuers},
		{"logins", 35 * time.Second, needsNothing, (*doctor).clientCertificates},
	}...)
	if t, err := d.file.tickets(); t != nil && err == nil {
		all = append(all, check{"kerberos", 35 * time.Second, needsSchema, func(d *doctor, ctx context.Context) { d.kerberos(ctx, d.shared.db) }})
	}
	return append(all, []check{
		{"database", usual, needsNothing, (*doctor).database},
		{"replica", usual, needsSchema, func(d *doctor, ctx context.Context) { d.replica(ctx, d.shared.db) }},
		{"queue", usual, needsSchema, func(d *doctor, ctx context.Context) { d.queue(ctx, d.shared.db) }},
		{"ports", usual, needsNothing, (*doctor).ports},
		{"ports", usual, needsNothing, (*doctor).fromOutside},
		{"dns", usual, needsNothing, (*doctor).dns},
		{"outbound", usual, needsNothing, (*doctor).outbound},
		{"telemetry", usual, needsNothing, (*doctor).telemetry},
	}...)
}

// doctorCommand is `dirpost doctor`.
func doctorCommand(path *string, std streams) *cobra.Command {
	var o doctorOptions
	c := &cobra.Command{
		Use: "doctor", Short: "Look at everything a node needs, and say what is wrong and what to do",
		Long: `Doctor looks at the configuration and its secrets, disks, certificates and the names
that they are for, each server of each directory and what the account sees there,
clocks, the database and its settings, size and standbys, the replica of the
directory, the queue, the ports of this node and the way to them from outside, the
records in the DNS, and the way out. It changes nothing.

Each line is ok (green), a warning (yellow), an error (red), or unknown: that could
not be looked at; → says what to do. The checks run side by side, each for at most 40
seconds, and are printed as they end.

The exit status is 0 when all is well, 1 with an error, 2 with warnings only.
docs/doctor.md has what each check means.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.outside != "" {
				return probeOutside(c.Context(), o, std)
			}
			for _, name := range o.only {
				if !slices.Contains(checkNames, name) {
					return fmt.Errorf("--only %s: there is no such check; there are %s", name, strings.Join(checkNames, ", "))
				}
			}
			if _, err := new(File).roles(o.roles); err != nil {
				return fmt.Errorf("--roles: %w", err)
			}
			d := &doctor{doctorOptions: o, path: *path}
			return d.examine(c.Context(), std)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.json, "json", false, "one JSON object a line")
	f.StringSliceVar(&o.only, "only", nil, "only these checks: "+strings.Join(checkNames, ", "))
	f.StringSliceVar(&o.roles, "roles", nil, "what the node of this host does, as given to serve, instead of server.roles")
	f.StringVar(&o.mailTo, "mail-to", "gmail.com", "domain, or HOST:PORT, to whose mail servers the way out is tried; nothing is sent")
	f.StringVar(&o.outside, "outside", "", "look at the ports of this host from here, as its clients do, and at nothing else: for another machine, which needs no configuration")
	return c
}

// examine runs all checks and prints what they find.
func (d *doctor) examine(ctx context.Context, std streams) error {
	r := newReport(d.json, std)
	var err error
	if d.file, err = readConfig(d.path); err != nil {
		d.bad("configuration", "'dirpost config example' shows every key", err)
		r.print(d.all)
		return r.end()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.shared = &sharedDatabase{ready: make(chan struct{})}
	var opening sync.WaitGroup
	opening.Go(func() { d.open(ctx) })
	defer func() {
		cancel()
		opening.Wait()
		if d.shared.db != nil && !d.shared.gaveUp.Load() { // else it ends with the process
			d.shared.db.Close()
		}
	}()
	var all []*runningCheck
	for _, c := range d.checks() {
		if len(d.only) == 0 || slices.Contains(d.only, c.name) {
			all = append(all, d.start(ctx, c))
		}
	}
	for i, one := range all {
		r.wait(all[i:])
		<-one.done
		r.print(one.doctor.findings())
	}
	return r.end()
}

// runningCheck is a check that runs, or has run.
type runningCheck struct {
	check
	doctor *doctor
	done   chan struct{} // closed when it has ended, or was given up
}

// start runs a check beside the others.
func (d *doctor) start(ctx context.Context, c check) *runningCheck {
	one := &runningCheck{check: c, doctor: &doctor{doctorOptions: d.doctorOptions, file: d.file, path: d.path, shared: d.shared}, done: make(chan struct{})}
	go func() {
		defer close(one.done)
		ctx, cancel := context.WithTimeoutCause(ctx, c.limit, fmt.Errorf("not done within %v", c.limit))
		defer cancel()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if one.doctor.may(ctx, c) {
				c.run(one.doctor, ctx)
			}
		}()
		select {
		case <-ended:
		case <-ctx.Done():
			select {
			case <-ended: // it keeps its time by itself
			case <-time.After(2 * time.Second):
				d.shared.gaveUp.Store(true)
				one.doctor.bad(c.name, "something does not answer: is the network in order?", fmt.Errorf("given up after %v", c.limit))
			}
		}
	}()
	return one
}

// may waits for the database where a check needs it, and reports whether it can run.
// That the database is not there is said once, with the check of that name.
func (d *doctor) may(ctx context.Context, c check) bool {
	if !c.needs {
		return true
	}
	select {
	case <-d.shared.ready:
	case <-ctx.Done():
		return false
	}
	switch {
	case d.shared.db == nil:
		d.unknown(c.name, "not looked at: the database cannot be opened")
	case d.shared.schema != nil:
		d.unknown(c.name, "not looked at: the schema of the database is not that of this program")
	default:
		return true
	}
	return false
}

// open opens the database for all checks. One that may lose mail is opened too, for
// what else there is to say of it.
func (d *doctor) open(ctx context.Context) {
	defer close(d.shared.ready)
	c := d.file.databaseConfig()
	c.AllowUnsafe, c.Interactive, c.Delivery, c.Background = true, 2, 1, 4
	c.StatementTimeout, c.LockTimeout = 15*time.Second, 5*time.Second
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if d.shared.db, d.shared.err = postgres.Open(ctx, c, slog.New(slog.DiscardHandler)); d.shared.err != nil {
		d.shared.db = nil
		return
	}
	d.shared.schema = d.shared.db.CheckSchema(ctx)
}

// configuration looks at what the configuration refers to.
func (d *doctor) configuration(context.Context) {
	if err := d.file.checkFiles(); err != nil {
		d.bad("configuration", "the server must be able to read these files, and nobody else the secrets", err)
		return
	}
	d.ok("configuration", "%s, with its secrets and certificates", d.path)
}

// sealed looks whether the sealing key opens what is in the database.
func (d *doctor) sealed(ctx context.Context) {
	const subject = "sealing key"
	if d.file.Server.SealingKey.String() == "" {
		d.warn(subject, "'openssl rand -base64 32' makes one; server.sealing_key refers to it", "there is none: mail is not signed, and there are neither app passwords' second factors nor certificates by ACME")
		return
	}
	sealer, err := d.file.sealer()
	if err != nil {
		return // said by configuration
	}
	if !d.may(ctx, check{name: subject, needs: needsSchema}) {
		return
	}
	var errs []error
	for _, domain := range d.file.Domains.Local {
		errs = append(errs, d.opens(ctx, sealer, domain))
	}
	if err := errors.Join(errs...); err != nil {
		d.bad(subject, "use the key of the other nodes, or the one beside your backups; mail of the domain waits until then", err)
		return
	}
	d.ok(subject, "opens the signing keys of our domains")
}
