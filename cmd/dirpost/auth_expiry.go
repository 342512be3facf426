package main

import (
	"context"
	"fmt"
	"time"

	"dirpost/auth/expiry"
	"dirpost/auth/selfservice"
	"dirpost/internal/envelope"
)

// PasswordWarningSection is [auth.password_warning]: mail before a password expires.
type PasswordWarningSection struct {
	Days  *[]int   `toml:"days"`
	URL   string   `toml:"url"`
	Every Duration `toml:"every"`
}

// config is the section as the package has it.
func (p PasswordWarningSection) config() expiry.Config {
	c := expiry.Config{Days: expiry.DefaultDays(), URL: p.URL, Every: time.Duration(p.Every)}
	if p.Days != nil {
		c.Days = *p.Days
	}
	return c
}

// changeURL is where people change their password: as the configuration says, else our
// own page where there is one, else "".
func (f *File) changeURL() string {
	switch origin := f.origin(); {
	case f.Auth.PasswordWarning.URL != "":
		return f.Auth.PasswordWarning.URL
	case origin != "" && f.Auth.Page.Enabled && f.Auth.Page.ChangePassword:
		return origin + selfservice.Root
	}
	return ""
}

// buildExpiry has people warned before their password expires, on a node that reads
// the directories and has a door for what it writes.
func (n *node) buildExpiry(ctx context.Context) error {
	c := n.file.Auth.PasswordWarning.config()
	if len(c.Days) == 0 || !n.has(roleDirectory) {
		return nil
	}
	if n.door == nil {
		n.log.WarnContext(ctx, "this node warns nobody before a password expires: it reads the directory, but takes and sends no mail (server.roles)")
		return nil
	}
	c.Hostname, c.URL = n.file.Server.Name, n.file.changeURL()
	var err error
	if c.From, err = envelope.ParseAddress(n.file.Domains.Postmaster); err != nil {
		return fmt.Errorf("domains.postmaster: %w", err)
	}
	d := expiry.Deps{DB: n.db, Live: n.live, Originator: n.door, Events: n.events, Log: n.log}
	for _, client := range n.readers {
		d.Sources = append(d.Sources, client)
	}
	j, err := expiry.New(c, d)
	if err != nil {
		return fmt.Errorf("auth.password_warning: %w", err)
	}
	n.back = append(n.back, part{"warnings before passwords expire", j.Run})
	return nil
}
