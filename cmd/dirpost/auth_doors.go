package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"dirpost/auth"
	"dirpost/directory"
)

// config is what the bridge is told.
func (a AuthSection) config() (auth.Config, error) {
	c := auth.Config{
		PlaintextLoopback: a.PlaintextLoopback, Remember: time.Duration(a.Remember), FailureTime: time.Duration(a.FailureTime),
		OutsidePasswordGroups: a.OutsidePasswordGroups, Masters: a.Masters,
	}
	var errs []error
	if a.Inside != nil {
		c.Inside = []netip.Prefix{} // answered, if with none
	}
	for _, text := range a.Inside {
		n, err := parseNetwork(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("inside: %q is no address or network such as 10.0.0.0/8", text))
			continue
		}
		c.Inside = append(c.Inside, n.Masked())
	}
	return c, errors.Join(append(errs, c.Validate())...)
}

// doors says whether anybody has said which networks are inside.
func (d *doctor) doors() {
	a := d.file.Auth
	switch {
	case a.Inside == nil:
		d.warn("logins", "name the networks of the house in auth.inside; 'dirpost auth test USER --from ADDRESS' shows what follows",
			"nobody has said which networks are inside, so the password of the domain is taken from everywhere")
		if len(a.OutsidePasswordGroups) > 0 {
			d.warn("logins", "set auth.inside, or remove it", "auth.outside_password_groups says nothing while every network is inside")
		}
	case len(a.OutsidePasswordGroups) > 0:
		d.ok("logins", "%d networks are inside; from outside the password of the domain is taken from %s", len(a.Inside), strings.Join(a.OutsidePasswordGroups, ", "))
	case a.AppPasswords.Max == 0:
		d.ok("logins", "%d networks are inside; from outside the password of the domain is not taken, and there are no app passwords (auth.app_passwords.max is 0)", len(a.Inside))
	default:
		d.ok("logins", "%d networks are inside; from outside the password of the domain is not taken, app passwords are ('dirpost auth app-password' makes them)", len(a.Inside))
	}
}

// authGroups looks for the groups that [auth] names. One that is not found holds for
// nobody.
func (d *doctor) authGroups(s *directory.Snapshot) {
	if !s.Ready() {
		return
	}
	for key, groups := range map[string][]string{"outside_password_groups": d.file.Auth.OutsidePasswordGroups, "masters": d.file.Auth.Masters} {
		for _, g := range s.MissingGroups(groups) {
			d.warn("logins", "is it spelt as in the directory, and below the base?", "auth.%s: there is no group %s, or more than one", key, g)
		}
	}
}
