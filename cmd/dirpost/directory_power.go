package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"dirpost/directory"
	"dirpost/directory/ldap"
)

// serverChecks is what the servers of the directories say about indexes and rights.
type serverChecks struct {
	findings []directory.Finding
	groups   []groupChangers
	more     int // groups that were not asked about
}

// groupChangers is who may change the members of a group that carries rights.
type groupChangers struct {
	Group string   `json:"group"`
	Gives []string `json:"gives"`
	Names []string `json:"members_changed_by"`
	Rules []string `json:"rules,omitempty"`
	Note  string   `json:"note,omitempty"`
}

// maxPowerGroups bounds the groups that are asked about, one question each.
const maxPowerGroups = 200

// askServers asks the directories what only they can tell. One that is away has been
// noted by who read it, and is left out.
func (f *File) askServers(ctx context.Context, s *directory.Snapshot, std streams) (out serverChecks) {
	log := newLogger(LogSection{Level: "error", Format: f.Log.Format}, std.err)
	power := s.PowerGroups()
	if out.more = len(power) - maxPowerGroups; out.more > 0 {
		power = power[:maxPowerGroups]
	}
	for _, name := range f.names() {
		client, err := f.commandClient(ctx, name, log)
		if err != nil {
			continue
		}
		out.indexes(ctx, client)
		out.selfPower(ctx, client)
		for _, g := range power {
			if g.Group.Directory == name {
				out.changers(ctx, client, s, g)
			}
		}
		client.Close()
	}
	return out
}

// indexes notes indexes that a server lacks.
func (out *serverChecks) indexes(ctx context.Context, client *ldap.Client) {
	found, err := client.CheckIndexes(ctx)
	if err != nil {
		return
	}
	for _, m := range found.Missing {
		out.findings = append(out.findings, directory.Finding{What: "missing index", Of: m.Attribute, LDIF: m.LDIF,
			Text: fmt.Sprintf("each search for %s reads all of directory %s", m.Why, client.Name())})
	}
	if found.Unknown != "" {
		out.findings = append(out.findings, directory.Finding{What: "indexes not known", Of: client.Name(), Text: found.Unknown})
	}
}

// selfPower notes what people could give themselves.
func (out *serverChecks) selfPower(ctx context.Context, client *ldap.Client) {
	found, err := client.CheckSelfPower(ctx)
	if err != nil {
		return
	}
	for _, w := range found.Writable {
		out.findings = append(out.findings, directory.Finding{What: "people can write", Of: w.Attribute,
			Text: fmt.Sprintf("in their own entry, by the %s, and it is read as %s: take the right away, or use a policy group", found.How, strings.Join(w.Fields, ", "))})
	}
	if found.Unknown != "" {
		out.findings = append(out.findings, directory.Finding{What: "rights not known", Of: client.Name(), Text: found.Unknown})
	}
}

// changers notes who may change the members of g.
func (out *serverChecks) changers(ctx context.Context, client *ldap.Client, s *directory.Snapshot, g directory.PowerGroup) {
	line := groupChangers{Group: g.Group.DN, Gives: g.Gives}
	found, err := client.CheckGroup(ctx, s, g.Group)
	if err != nil {
		line.Note = err.Error()
	} else {
		line.Names, line.Rules, line.Note = found.Names, found.Rules, found.Unknown
	}
	out.groups = append(out.groups, line)
}

// reportPowerJSON writes one line a group.
func reportPowerJSON(out serverChecks, std streams) error {
	enc := json.NewEncoder(std.out)
	for _, g := range out.groups {
		if err := enc.Encode(g); err != nil {
			return err
		}
	}
	return nil
}

// reportPower says, for people, who may change the groups that carry rights, and how
// missing indexes are added.
func reportPower(out serverChecks, std streams) error {
	var ldif []string
	for _, f := range out.findings {
		if f.LDIF != "" {
			ldif = append(ldif, f.LDIF)
		}
	}
	if len(ldif) > 0 {
		fmt.Fprintf(std.out, "\nThe indexes, for ldapmodify as the administrator of the server:\n\n%s", strings.Join(ldif, "\n"))
	}
	if len(out.groups) == 0 {
		return nil
	}
	fmt.Fprintf(std.out, "\nWho may change the members of the groups that carry rights, beside the administrators of the directory:\n\n")
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GROUP\tGIVES\tCHANGED BY\t")
	for _, g := range out.groups {
		rows := append(append([]string(nil), g.Names...), g.Rules...)
		if g.Note != "" {
			rows = append(rows, "not known: "+g.Note)
		}
		if len(rows) == 0 {
			rows = []string{"nobody"}
		}
		for i, r := range rows {
			group, gives := g.Group, strings.Join(g.Gives, ", ")
			if i > 0 {
				group, gives = "", ""
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t\n", group, gives, r)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if out.more > 0 {
		fmt.Fprintf(std.out, "and %d more groups, which were not asked about\n", out.more)
	}
	return nil
}
