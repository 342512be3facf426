package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"dirpost/auth/selfservice"
)

// report prints what runs where, who can log in, and what to try.
func (d *demo) report() {
	fmt.Fprintf(d.out, "\nExample Corp is up after %.1f s.\n\n", time.Since(d.start).Seconds())
	w := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  SERVICE\tADDRESS\t")
	for _, s := range services {
		address := d.address(s)
		if s.name == "LDAP" {
			address = d.directory.url()
		}
		about := s.about
		if s.name == "HTTPS" {
			about += ": https://" + address + selfservice.Root
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", strings.ToLower(s.name), address, about)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "  ACCOUNT\tADDRESS\t")
	for _, a := range append([][3]string{
		{"alice", "alice@" + demoDomain, "also a.example@" + demoDomain},
		{"bob", "bob@" + demoDomain, ""},
		{"wangwei", "wangwei@" + demoDomain, "王伟"},
		{"carol", "carol@" + demoDomain, ""},
		{"lina", "lina@" + demoDomain, "李娜@" + demoDomain + ", an internationalized address"},
		{"dave", "dave@" + demoDomain, "disabled: cannot log in, gets mail"},
		{"—", "sales@" + demoDomain, "list: alice, bob and emea-sales@ (wangwei, carol)"},
		{"—", "office@" + demoDomain, "shared mailbox, read by sales as Shared/office@" + demoDomain},
	}, d.directory.people()...) {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", a[0], a[1], a[2])
	}
	if err := w.Flush(); err != nil {
		return
	}
	fmt.Fprintf(d.out, "\n  Password of all: %s\n  Everything a program needs to know: %s\n", d.password, d.path("demo.env"))
	switch {
	case d.smarthost != "":
		fmt.Fprintf(d.out, "  Mail to outside is sent to %s.\n", d.smarthost)
	case !d.allowOutbound:
		fmt.Fprintf(d.out, "  Mail to outside is not sent, it ends in the mailbox outbound@%s (--allow-outbound).\n", demoDomain)
	}
	fmt.Fprintf(d.out, "\nTo try, in another terminal:\n\n%s\nCtrl-C ends it.\n", d.commands())
}

// commands are five commands to paste.
func (d *demo) commands() string {
	port := func(name string) int { return d.portBase + serviceNamed(name).port }
	return fmt.Sprintf(`  # write to a list as alice
  swaks --server %[1]s --port %[2]d -tls --auth PLAIN --auth-user alice --auth-password '%[3]s' --from alice@%[4]s --to sales@%[4]s --header 'Subject: 你好'
  # mail from outside for bob
  swaks --server %[1]s --port %[5]d --from friend@partner.example --to bob@%[4]s
  # what is in bob's INBOX
  curl -s --cacert %[6]s -u 'bob:%[3]s' 'imaps://%[1]s:%[7]d/INBOX' -X 'SEARCH ALL'
  # the first message of wangwei, over POP3
  curl -s --cacert %[6]s -u 'wangwei:%[3]s' 'pop3s://%[1]s:%[8]d/1'
  # give bob another address; mail for it is accepted at once
%[9]s`, d.host, port("SUBMISSION"), d.password, demoDomain, port("SMTP"), d.path("ca.pem"), port("IMAPS"), port("POP3S"), d.directory.alias())
}
