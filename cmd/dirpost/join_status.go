package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"dirpost/directory/join"

	"github.com/spf13/cobra"
)

func joinStatusCommand(path *string, f *joinFlags, std streams) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use: "status", Short: "Say how the account stands, by the word of the domain", Args: cobra.NoArgs,
		Long: `Status asks the domain about the account of this system, and gets a ticket for it
that its own key opens. The exit status is 1 when something is wrong.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return withMember(c.Context(), *path, *f, "", std, func(ctx context.Context, m *join.Member, _ *File) error {
				st, err := m.Status(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					err = json.NewEncoder(std.out).Encode(statusJSON(st))
				} else {
					err = printStatus(st, std.out)
				}
				if err == nil && len(statusProblems(st)) > 0 {
					err = exitCode(1)
				}
				return err
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return c
}

// maxAhead is from which difference of clocks on status warns: Kerberos takes five
// minutes.
const maxAhead = time.Minute

// statusProblems is what is wrong, with what to do.
func statusProblems(st *join.Status) []string {
	if st.Problem != nil {
		return []string{st.Problem.Error()}
	}
	var all []string
	k, _ := st.Current()
	wrong := func(is bool, format string, args ...any) {
		if is {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	computer := strings.TrimSuffix(st.Principal, "$")
	wrong(st.Ticket != nil, "our key opens no ticket for ourselves: %v", st.Ticket)
	wrong(st.Disabled, "the account is disabled\n  try: Enable-ADAccount '%s'", st.DN)
	wrong(st.KVNO != k.KVNO, "the domain has the key number %d, and we have %d\n  try: dirpost join %s --name %s --reuse", st.KVNO, k.KVNO, st.Domain, computer)
	wrong(st.Managed && st.Etypes&^(8|16) != 0, "the account allows weak keys (msDS-SupportedEncryptionTypes is %d)\n  try: Set-ADComputer %s -KerberosEncryptionType AES128,AES256", st.Etypes, computer)
	for _, n := range st.Missing {
		wrong(true, "the account does not have the service %s\n  try: setspn -S %s %s", n, n, computer)
	}
	wrong(st.Ahead.Abs() > maxAhead, "the clock of this host is %v off that of %s\n  try: timedatectl set-ntp true", st.Ahead, st.Controller)
	return all
}

func printStatus(st *join.Status, out io.Writer) error {
	k, _ := st.Current()
	printAccount(st.Stored, out)
	fmt.Fprintf(out, "  age of key  %s\n", span(st.Age))
	old, waits := 0, 0
	for _, key := range st.Keys {
		switch key.State {
		case join.StateOld:
			old++
		case join.StatePending:
			waits++
		}
	}
	fmt.Fprintf(out, "  other keys  %d old, %d not known to be in use\n", old, waits)
	if !st.Managed {
		fmt.Fprintln(out, "  keytab      made elsewhere; who has made it changes it")
	}
	if st.CA != "" {
		all, err := join.Certificates(st.CA)
		if err != nil {
			return err
		}
		for _, a := range all {
			fmt.Fprintf(out, "  trusts      %s, SHA-256 %s\n", a.Certificate.Subject, a.Fingerprint)
		}
	}
	if st.Problem == nil {
		fmt.Fprintf(out, "  in AD       number %d, encryption types %d, clock %v off\n", st.KVNO, st.Etypes, st.Ahead.Abs())
		fmt.Fprintf(out, "  deletions   %s\n", deletionsOf(st))
	}
	problems := statusProblems(st)
	for _, p := range problems {
		fmt.Fprintln(out, "WRONG: "+p)
	}
	if len(problems) == 0 {
		fmt.Fprintf(out, "The key number %d works: a ticket for %s was got and opened.\n", k.KVNO, st.Principal)
	}
	return nil
}

// statusJSON is what --json prints; no key is in it.
func statusJSON(st *join.Status) map[string]any {
	k, _ := st.Current()
	return map[string]any{
		"directory": st.Directory, "domain": st.Domain, "realm": st.Realm, "netbios": st.NetBIOS, "domain_sid": st.DomainSID,
		"account": st.Principal, "dn": st.DN, "controller": st.Controller, "level": st.Level, "managed": st.Managed,
		"kvno": k.KVNO, "kvno_domain": st.KVNO, "key_age_seconds": int64(st.Age / time.Second), "encryption_types": st.Etypes,
		"services": st.Services, "missing_services": st.Missing, "clock_ahead_seconds": int64(st.Ahead / time.Second),
		"told_of_deletions": st.Told, "problems": statusProblems(st),
	}
}
