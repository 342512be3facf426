package main

import (
	"context"
	"errors"
	"fmt"

	"dirpost/auth"
	"dirpost/auth/krb5"
	"dirpost/auth/replay"
	"dirpost/directory/ldap"
	"dirpost/internal/gssapi"
)

// KerberosSection is [auth.kerberos].
type KerberosSection struct {
	Enabled               *bool          `toml:"enabled"`
	Keytab                Secret         `toml:"keytab"`
	Outside               bool           `toml:"outside"`
	RequireChannelBinding bool           `toml:"require_channel_binding"`
	Realm                 []RealmSection `toml:"realm"`
}

// RealmSection is one of [[auth.kerberos.realm]].
type RealmSection struct {
	Name      string `toml:"name"`
	Login     string `toml:"login"`
	Directory string `toml:"directory"`
}

// config is the section as the package has it.
func (k KerberosSection) config() krb5.Config {
	c := krb5.Config{Outside: k.Outside, RequireBinding: k.RequireChannelBinding}
	for _, r := range k.Realm {
		c.Realms = append(c.Realms, krb5.Realm{Name: r.Name, Login: r.Login, Directory: r.Directory})
	}
	return c
}

// isOff reports whether the administrator wants no tickets.
func (k KerberosSection) isOff() bool { return k.Enabled != nil && !*k.Enabled }

// validateKerberos says what cannot be meant.
func (f *File) validateKerberos() error {
	k := f.Auth.Kerberos
	errs := []error{k.config().Validate()}
	for _, r := range k.Realm {
		if _, ok := f.Directory[r.Directory]; r.Directory != "" && !ok {
			errs = append(errs, fmt.Errorf("realm %s: directory: there is no section [directory.%s]", r.Name, r.Directory))
		}
	}
	if k.Enabled != nil && *k.Enabled && k.Keytab.String() == "" && !f.isJoined() {
		errs = append(errs, errors.New(`enabled: there is no key: name a keytab, or join the domain (bind = "joined" in the section of the directory)`))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("auth.kerberos: %w", err)
	}
	return nil
}

// isJoined reports whether this system has, or will have, an account in a domain.
func (f *File) isJoined() bool {
	for _, d := range f.Directory {
		if d.Bind == ldap.BindJoined {
			return true
		}
	}
	return false
}

// tickets makes what judges Kerberos tickets, with the keytab that is a file; nil
// where there can be no key. The keys of an account in a domain are told to it by
// takeMachine.
func (f *File) tickets() (*krb5.Acceptor, error) {
	k := f.Auth.Kerberos
	if k.isOff() || k.Keytab.String() == "" && !f.isJoined() {
		return nil, nil
	}
	a := krb5.New(k.config())
	if err := k.readKeytab(a); err != nil {
		return nil, err
	}
	return a, nil
}

// readKeytab tells a the keys that are in the file. After an error those that it has
// stay.
func (k KerberosSection) readKeytab(a *krb5.Acceptor) error {
	keytab, err := k.Keytab.ResolveBytes()
	if err == nil && keytab != nil {
		err = a.SetKeytab("", keytab)
	}
	if err != nil {
		return fmt.Errorf("auth.kerberos.keytab: %w", err)
	}
	return nil
}

// reloadKeytab reads the keytab again, if it is a file.
func (n *node) reloadKeytab() error {
	if n.tickets == nil {
		return nil
	}
	return n.file.Auth.Kerberos.readKeytab(n.tickets)
}

// buildTickets makes what judges Kerberos tickets.
func (n *node) buildTickets(context.Context) (err error) {
	if n.has(roleMSA, roleIMAP, rolePOP, roleHTTP) {
		n.tickets, err = n.file.tickets()
	}
	return err
}

// takeMachine tells a the keys of the account in the domain of a directory, old ones
// and those that the domain may have taken already too. a may be nil.
func takeMachine(a *krb5.Acceptor, directory string, m ldap.Machine) error {
	if a == nil {
		return nil
	}
	keytab := m.Tickets
	if keytab == nil {
		keytab = m.Keytab
	}
	return a.SetKeytab(directory, keytab)
}

// checkTicketKeytab says what is wrong with the keytab that is a file. That there is
// one is checked with the other secrets.
func (k KerberosSection) checkTicketKeytab() error {
	keytab, err := k.Keytab.ResolveBytes()
	if err != nil || keytab == nil {
		return nil
	}
	entries, err := gssapi.ReadKeytab(keytab)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Usable {
			return nil
		}
	}
	return errors.New("keytab has no AES key (types 17 to 20)")
}

// addReplays lets nodes tell each other which tickets they have taken.
func (n *node) addReplays(parts *auth.Parts) {
	if parts.Tickets == nil {
		return
	}
	parts.Replays = replay.New(n.db, n.log)
	n.register(parts.Replays.Collectors()...)
	n.back = append(n.back, part{"used tickets", parts.Replays.Run})
}
