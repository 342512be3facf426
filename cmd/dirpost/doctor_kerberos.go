package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dirpost/directory/join"
	"dirpost/directory/ldap"
	"dirpost/internal/gssapi"
	"dirpost/internal/postgres"
)

// kerberosNames are what clients of a listener ask for tickets for.
var kerberosNames = map[string]string{"imap": "imap", "pop3": "pop", "submission": "smtp", "http": "HTTP"}

// kerberos looks at what single sign-on needs: keys of the names that clients ask
// for, the account in the domain, clocks, and that people can be found by a ticket.
func (d *doctor) kerberos(ctx context.Context, db *postgres.DB) {
	tickets, err := d.file.tickets()
	if tickets == nil || err != nil {
		return // off, or said by checkFiles
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	before := len(d.findings())
	keytab, _ := d.file.Auth.Kerberos.Keytab.ResolveBytes() // the same
	entries, _ := gssapi.ReadKeytab(keytab)
	for _, name := range d.file.names() {
		if d.file.Directory[name].Bind == ldap.BindJoined {
			entries = append(entries, d.membership(ctx, db, name)...)
		}
	}
	if len(entries) == 0 {
		return // not joined yet, which the directory has said
	}
	missing := d.file.missingNames(entries)
	if len(missing) > 0 {
		d.warn("kerberos", "make them services of the account ('setspn -S NAME ACCOUNT', then 'dirpost join rotate' or a new keytab), or let clients use a name that has them", "there is no key for %s: clients that connect to %s ask for it", strings.Join(missing, ", "), d.file.Server.Name)
	}
	if keytab != nil {
		d.clocks(ctx, entries)
	}
	d.findable(ctx, db)
	if len(d.findings()) == before {
		d.ok("kerberos", "keys for the names of %s, clocks agree", d.file.Server.Name)
	}
}

// membership looks at the account in a domain, by the word of the domain, and
// returns for what it has keys.
func (d *doctor) membership(ctx context.Context, db *postgres.DB, name string) []gssapi.KeytabEntry {
	sealer, err := d.file.sealer()
	if err != nil {
		return nil // said with the directory
	}
	client, err := d.file.client(name, true, nil)
	if err != nil {
		return nil
	}
	defer client.Close()
	log := slog.New(slog.DiscardHandler)
	m := &join.Member{Store: join.NewStore(db, sealer, commandHints{ctx, db, log}), Directory: name, Controller: client, Node: "doctor", Log: log, Spread: join.Spread}
	st, err := m.Status(ctx)
	if err != nil {
		return nil
	}
	for _, p := range statusProblems(st) {
		d.warn("kerberos "+name, "'dirpost join status' shows all of it", "%s", p)
	}
	keytab, err := st.Keytab()
	if err != nil {
		return nil
	}
	entries, _ := gssapi.ReadKeytab(keytab)
	return entries
}

// missingNames are the names that clients of our listeners ask for tickets for, and
// that no usable key is for.
func (f *File) missingNames(entries []gssapi.KeytabEntry) []string {
	var missing []string
	for _, l := range f.Listener {
		service, ok := kerberosNames[l.Protocol]
		name := service + "/" + f.Server.Name
		if !ok || slices.Contains(missing, name) || slices.ContainsFunc(entries, func(e gssapi.KeytabEntry) bool { return e.Usable && strings.EqualFold(e.Principal, name) }) {
			continue
		}
		missing = append(missing, name)
	}
	return missing
}

// clocks compares ours with those of the KDCs of a keytab. For an account in a domain
// its status does so.
func (d *doctor) clocks(ctx context.Context, entries []gssapi.KeytabEntry) {
	var realms []string
	for _, e := range entries {
		if !slices.Contains(realms, e.Realm) {
			realms = append(realms, e.Realm)
		}
	}
	for _, realm := range realms {
		kdcs := d.file.kdcs(ctx, realm)
		if len(kdcs) == 0 {
			d.warn("kerberos", "name them: kdc in the section of a directory of the realm, or _kerberos._tcp."+strings.ToLower(realm)+" in the DNS", "the KDCs of %s are not known: whether the clocks agree was not looked at", realm)
			continue
		}
		ahead, err := gssapi.Clock(ctx, gssapi.Account{Realm: realm, KDCs: kdcs})
		switch {
		case err != nil:
			d.warn("kerberos", "who has a ticket comes in; new ones only the KDC gives", "%v", err)
		case ahead.Abs() > maxAhead:
			d.clockOff("the KDC of "+realm, ahead)
		}
	}
}

// maxSkew is from which difference of clocks on tickets are refused (RFC 4120 §8.2).
const maxSkew = 5 * time.Minute

// clockOff reports a clock that is another than ours.
func (d *doctor) clockOff(whose string, ahead time.Duration) {
	const do = "timedatectl set-ntp true, on both hosts"
	text := fmt.Sprintf("the clock of this host is %s off that of %s", span(ahead.Abs()), whose)
	if ahead.Abs() < maxSkew {
		d.warn("clock", do, "%s; from 5 minutes on every ticket is refused", text)
		return
	}
	d.bad("clock", do, fmt.Errorf("%s: every ticket is refused", text))
}

// kdcs are the KDCs of a realm: those of a directory that is in it, else those that
// the DNS has.
func (f *File) kdcs(ctx context.Context, realm string) []string {
	for _, d := range f.Directory {
		if strings.EqualFold(d.Realm, realm) && len(d.KDC) > 0 {
			return d.KDC
		}
	}
	dns, err := f.resolver()
	if err != nil {
		return nil
	}
	found, err := dns.SRV(ctx, "_kerberos._tcp."+strings.ToLower(realm))
	if err != nil {
		return nil
	}
	var all []string
	for _, r := range found.Records {
		addresses, err := dns.Addresses(ctx, r.Host)
		if err != nil {
			continue
		}
		for _, a := range addresses.Records {
			all = append(all, netip.AddrPortFrom(a, r.Port).String())
		}
	}
	return all
}

// findable reports whether anybody can be found by a ticket.
func (d *doctor) findable(ctx context.Context, db *postgres.DB) {
	if len(d.file.Auth.Kerberos.Realm) > 0 {
		return
	}
	s, err := replicaOf(ctx, d.file, db)
	if err != nil || !s.Ready() {
		return // said with the replica
	}
	for e := range s.All() {
		if e.SID != "" {
			return
		}
	}
	d.warn("kerberos", "add [[auth.kerberos.realm]]; see docs/kerberos.md", "nobody in the directory has a SID, and nothing says who the people of a realm are: every ticket is refused")
}
