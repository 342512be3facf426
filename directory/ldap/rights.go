package ldap

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// RightGroups are the DNs of groups whose members have a right to a mailbox, for
// directories without an attribute that says so: each names the groups of all
// mailboxes, with {name} for the local-part of the primary address, or {address}
// for all of it, which tells mailboxes of several domains apart. It is a DN and not a
// name, so that nobody gains a right by making a group elsewhere in the tree. ""
// means that there are none.
type RightGroups struct {
	Access   string // open the mailbox
	SendAs   string // send as it
	OnBehalf string // send on its behalf
}

// groupNames are the templates with the fields that they add to.
func (g RightGroups) groupNames() [3][2]string {
	return [...][2]string{{"access", g.Access}, {"send_as", g.SendAs}, {"on_behalf", g.OnBehalf}}
}

// validate reports templates that are no DN, or name the same group for all.
func (g RightGroups) validate() error {
	var errs []error
	for _, t := range g.groupNames() {
		key, template := t[0]+"_group", t[1]
		if template == "" {
			continue
		}
		if dn, err := ldap.ParseDN(expandGroup(template, "x", "x@x.example")); err != nil || len(dn.RDNs) < 2 {
			errs = append(errs, fmt.Errorf("%s: %q is not the DN of a group", key, template))
		}
		if !strings.Contains(template, "{name}") && !strings.Contains(template, "{address}") {
			errs = append(errs, fmt.Errorf("%s: %q has neither {name} nor {address}, and would give a right to every mailbox", key, template))
		}
	}
	return errors.Join(errs...)
}

// expandGroup fills a template in.
func expandGroup(template, name, address string) string {
	return strings.NewReplacer("{name}", ldap.EscapeDN(name), "{address}", ldap.EscapeDN(address)).Replace(template)
}

// rightGroups adds the groups of the mailbox or list e to those who have rights to
// it.
func (r *reading) rightGroups(e *directory.Entry) {
	if e.Primary.IsZero() || !e.HasMailbox() && e.Kind != directory.KindList {
		return
	}
	lists := [...]*[]string{&e.Access, &e.SendAs, &e.OnBehalf}
	for i, t := range r.m.rights.groupNames() {
		if t[1] == "" || t[0] == "access" && !e.HasMailbox() {
			continue
		}
		dn := directory.NormalizeDN(expandGroup(t[1], e.Primary.Local, e.Primary.String()))
		*lists[i] = append(*lists[i], dn)
		slices.Sort(*lists[i])
		*lists[i] = slices.Compact(*lists[i])
		r.origins = append(r.origins, t[0]+"="+t[0]+"_group")
	}
}
