package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"dirpost/directory"
	"dirpost/directory/ldap"
	"dirpost/internal/bus"
	"dirpost/internal/postgres"
)

// directory asks a directory something with the server's account.
func (d *doctor) directory(ctx context.Context, name string) {
	subject := "directory " + name
	client, err := d.file.client(name, true, nil)
	if err != nil {
		d.bad(subject, "see the section [directory."+name+"]", err)
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 35*time.Second)
	defer cancel()
	d.file.recall(ctx, client, slog.New(slog.DiscardHandler))
	if err := d.file.setMachine(ctx, client, slog.New(slog.DiscardHandler)); err != nil {
		d.bad(subject, "'dirpost join status' says more", err)
		return
	}
	if err := client.Check(ctx); err != nil {
		d.bad(subject, d.file.Directory[name].hint()+" Mail goes on with what was read last; nobody can log in", err)
		d.serversDown(ctx, name, client)
		return
	}
	// With a GSSAPI bind, what is read does not show whether people can log in.
	if err := client.CheckLogin(ctx); err != nil {
		d.bad(subject, "is ca right, and does the server take StartTLS? Nobody can log in", err)
		return
	}
	d.servers(ctx, name, client)
	d.visible(ctx, name, client)
	d.indexes(ctx, name, client)
	d.directoryClock(ctx, name, client)
	d.lockout(ctx, name, client)
}

// serversDown says, for a directory that cannot be used, which of several servers are
// at fault.
func (d *doctor) serversDown(ctx context.Context, name string, client *ldap.Client) {
	all, err := client.AskServers(ctx)
	if err != nil || len(all) < 2 {
		return
	}
	for _, s := range all {
		if s.State == ldap.ServerDown {
			d.bad("directory "+name, "", fmt.Errorf("%s does not answer (%s): %s", s.URL, s.Use, s.LastError))
		}
	}
}

// servers asks each server of a directory, and not only the one that is used.
func (d *doctor) servers(ctx context.Context, name string, client *ldap.Client) {
	subject := "directory " + name
	all, err := client.AskServers(ctx)
	if err != nil {
		d.bad(subject, "are the resolvers of this host those of the domain?", err)
		return
	}
	var up []string
	for _, s := range all {
		switch {
		case s.State == ldap.ServerDown:
			d.warn(subject, "mend it: while it is away, the others are used", "%s does not answer (%s): %s", s.URL, s.Use, s.LastError)
		case !slices.Contains(up, s.URL):
			up = append(up, s.URL)
			if left := time.Until(s.Expires); !s.Expires.IsZero() && left < 14*24*time.Hour {
				d.warn(subject, "renew it there: from its end on nobody can log in by this server", "the certificate of %s ends in %s", s.URL, span(left))
			}
		}
	}
	choice, err := client.Choice(ctx)
	if err != nil {
		d.bad(subject, "does it still answer?", err)
		return
	}
	for _, note := range choice.Notes {
		d.warn(subject, "see docs/attributes.md", "%s", note)
	}
	d.ok(subject, "answers at %s, is read as %s", strings.Join(up, ", "), choice.Profile)
}

// visible looks whether the account sees people, and what mail needs of them.
func (d *doctor) visible(ctx context.Context, name string, client *ldap.Client) {
	subject := "rights in " + name
	v, err := client.CheckVisible(ctx)
	if err != nil {
		d.bad(subject, "does it still answer?", err)
		return
	}
	if v.People == 0 {
		d.bad(subject, "are base and filter right, and may the account read the people below the base? docs/connect-openldap.md and docs/connect-active-directory.md have the rights that it needs",
			fmt.Errorf("%s sees nobody: no person below %s matches %s", v.Account, v.Base, v.Filter))
		return
	}
	for _, l := range v.Lacking {
		d.bad(subject, "let the account read "+strings.Join(l.Sources, ", ")+", or name the attribute in [directory."+name+".mapping]: docs/attributes.md",
			fmt.Errorf("%s sees %d people, and of none the %s, which is read from %s", v.Account, v.People, l.Field, strings.Join(l.Sources, ", ")))
	}
	if len(v.Lacking) == 0 {
		d.ok(subject, "%s sees people, and of them %s", v.Account, strings.Join(v.Seen, ", "))
	}
}

// indexes looks whether searches read all of the directory.
func (d *doctor) indexes(ctx context.Context, name string, client *ldap.Client) {
	found, err := client.CheckIndexes(ctx)
	if err != nil || len(found.Missing) == 0 {
		return // that it does not answer was said
	}
	var names []string
	for _, m := range found.Missing {
		names = append(names, m.Attribute)
	}
	d.warn("directory "+name, "'dirpost directory check' prints the LDIF that adds them", "the server has no index of %s: each of our searches reads all of it", strings.Join(names, ", "))
}

// directoryClock compares ours with that of a directory that tells it.
func (d *doctor) directoryClock(ctx context.Context, name string, client *ldap.Client) {
	ahead, known, err := client.Clock(ctx)
	switch {
	case err != nil || !known:
	case ahead.Abs() > maxAhead:
		d.clockOff("directory "+name, ahead)
	default:
		d.ok("clock", "agrees with directory %s", name)
	}
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
		d.ok("replica", "version %d, %d entries, confirmed %s ago", s.Version(), s.Len(), span(age))
	}
	if n := s.AmbiguousAddresses() + s.AmbiguousLogins(); n > 0 {
		d.warn("directory", "'dirpost directory check' names them", "%d addresses and login names belong to more than one entry", n)
	}
	if err := d.followed(ctx, db, s); err != nil {
		d.bad("replica", "", err)
	}
}

// maxBehind is from when on a server of a directory that lacks changes is a warning:
// Active Directory replicates between sites every 15 minutes and more.
const maxBehind = time.Hour

// followed looks at how the nodes get on with each directory.
func (d *doctor) followed(ctx context.Context, db *postgres.DB, s *directory.Snapshot) error {
	reports, err := directory.Reports(ctx, db)
	node, nodeErr := directory.FeedingNode(ctx, db)
	if err := errors.Join(err, nodeErr); err != nil {
		return err
	}
	if node == "" {
		d.warn("replica", "start 'dirpost serve' with the role directory on one of them", "no node reads the directory: changes do not arrive")
	}
	for _, r := range reports {
		subject := "directory " + r.Name
		switch {
		case r.Problem != "":
			d.warn(subject, "'dirpost directory status' says more", "cannot be followed: %s", r.Problem)
		case r.Complete && r.Stale() && r.Age != nil:
			d.warn(subject, "'dirpost directory status' says more", "changes were last heard of %s ago", span(*r.Age))
		}
		if r.Braked > 0 {
			d.warn(subject, "'dirpost directory status' lists them; mend the directory, or 'dirpost directory release "+r.Name+"'", "%d entries are held back since too many would vanish at once", r.Braked)
		}
		d.deletions(s, &r)
		if r.Status == nil {
			continue
		}
		for _, one := range r.Status.Servers {
			if one.Behind > maxBehind {
				d.warn(subject, "'repadmin /showrepl' there says why", "%s has lacked changes for %s that another server has: who was disabled there may go on here", one.Name, span(one.Behind))
			}
		}
	}
	return nil
}
