package main

import (
	"context"
	"fmt"

	"dirpost/directory"
	"dirpost/directory/join"
	"dirpost/directory/ldap"

	"github.com/spf13/cobra"
)

// joinReadDeletedCommand is `dirpost join read-deleted`.
func joinReadDeletedCommand(path *string, f *joinFlags, std streams) *cobra.Command {
	revoke := false
	c := &cobra.Command{
		Use: "read-deleted", Short: "Let the account read deleted entries, so that the domain tells it of deletions", Args: cobra.NoArgs,
		Long: `Read-deleted lets the account of this system read CN=Deleted Objects of the domain,
with an administrator's right. The domain tells it of deletions from then on, at
once. Without the right, deletions are found by comparing the identifiers of all
entries, which takes seconds in a large domain.

One entry is added to the access list of the container, and nothing else there is
changed. Where the administrator may not change that list, as in a domain in which
nobody ever has, the group Administrators becomes the owner of the container first.
'dirpost join leave' takes the entry back, as --revoke does.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return withMember(c.Context(), *path, *f, "", std, func(ctx context.Context, m *join.Member, _ *File) error {
				if _, err := m.Store.Load(ctx, m.Directory); err != nil {
					return err
				}
				r := join.Request{User: f.user, Command: readDeletedAgain(*f)}
				var err error
				if r.Password, err = readPassword(ctx, "Password of "+f.user+": ", f.passwordFile, std); err != nil {
					return err
				}
				if !revoke {
					return allowDeleted(ctx, m, r, std)
				}
				r.Command += " --revoke"
				text := "The account may not read deleted entries any more: deletions are found by comparing."
				changed, err := m.HideDeleted(ctx, r)
				if err == nil && !changed {
					text = "The account has no right of its own to read deleted entries."
				}
				if err == nil {
					_, err = fmt.Fprintln(std.out, text)
				}
				return err
			})
		},
	}
	c.Flags().BoolVar(&revoke, "revoke", false, "take the right back")
	adminFlags(c, f)
	return c
}

// readDeletedAgain is the command that lets the account of a directory read deleted
// entries, for advice.
func readDeletedAgain(f joinFlags) string {
	text := "dirpost join read-deleted"
	if f.directory != "" {
		text += " --directory " + f.directory
	}
	return text
}

// allowDeleted lets the account read deleted entries, and says so.
func allowDeleted(ctx context.Context, m *join.Member, r join.Request, std streams) error {
	changed, err := m.ReadDeleted(ctx, r)
	if err != nil {
		return err
	}
	text := "The account may read deleted entries now: the domain tells it of deletions at once."
	if !changed {
		text = "The account could read deleted entries already."
	}
	_, err = fmt.Fprintln(std.out, text)
	return err
}

// deletionsOf says how deletions are seen.
func deletionsOf(st *join.Status) string {
	if st.Told {
		return "told at once, since the account may read deleted entries"
	}
	return "found by comparing; '" + readDeletedAgain(joinFlags{}) + "' has the domain tell them at once"
}

// manyEntries is from how many entries on a comparison takes longer than the second in
// which a change is to be in effect.
const manyEntries = 20_000

// compareAdvice is what has the domain controllers of a directory tell of deletions.
func compareAdvice(f *File, name string) string {
	if f.Directory[name].Bind == ldap.BindJoined {
		return "'" + readDeletedAgain(joinFlags{directory: name}) + "' has the domain tell them at once"
	}
	return "docs/connect-active-directory.md has the command by which the domain tells them at once (How changes are seen)"
}

// areCompared reports whether deletions are found by comparing in a directory that would
// tell them to another account.
func areCompared(s *directory.SourceStatus) bool {
	return s != nil && s.Mode == ldap.FollowDirSync && s.Deletions == ldap.DeletionsCompared
}

// deletions says how deletions in a directory are seen, where accounts differ in that.
func (d *doctor) deletions(s *directory.Snapshot, r *directory.Report) {
	subject, n := "deletions in "+r.Name, s.Tallies()[r.Name].There()
	switch {
	case r.Status == nil || r.Status.Mode != ldap.FollowDirSync:
	case !areCompared(r.Status):
		d.ok(subject, "are told at once, since the account may read deleted entries")
	case n < manyEntries:
		d.ok(subject, "are found by comparing, which is quick with %d entries; %s", n, compareAdvice(d.file, r.Name))
	default:
		d.warn(subject, compareAdvice(d.file, r.Name), "are found by comparing, which takes seconds with %d entries: so long mail for who was deleted is taken", n)
	}
}
