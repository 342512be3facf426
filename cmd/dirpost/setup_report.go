package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// report says what to publish and what to run.
func (s *setup) report(ctx context.Context) error {
	db, err := openDatabase(ctx, s.file, s.log)
	if err != nil {
		return err
	}
	defer db.Close()
	addresses := s.publicAddresses()
	if s.result.Records, err = dnsRecords(ctx, s.file, db, addresses); err != nil {
		return err
	}
	s.result.Next = s.next()
	w := s.say
	if s.asJSON {
		return s.printResult()
	}
	if len(s.result.Done) == 0 {
		fmt.Fprintf(w, "   ✓ nothing to change; 'dirpost dns records%s' prints the records to publish\n", s.configFlag())
		return s.reportNext()
	}
	fmt.Fprintf(w, "\nPublish these records in the DNS, as lines of a zone file:\n")
	printZone(w, s.result.Records, 1)
	if len(addresses) == 0 {
		fmt.Fprintf(w, "\n; and A, AAAA and PTR: 'dirpost dns records --address IP%s' prints them for the public address of %s\n", s.configFlag(), s.a.Host)
	}
	fmt.Fprintf(w, "\nThe same to fill in, with the reason for each:\n\n")
	if err := printTable(w, s.result.Records); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n'dirpost dns check%s' compares them with what the DNS says.\n", s.configFlag())
	if s.a.Database.Kind == databasePrivate && s.private.start() != "" {
		fmt.Fprintf(w, "The database runs until this host ends; then it is started by\n  %s\n", s.private.start())
	}
	fmt.Fprintf(w, "Keep a copy of %s beside your backups: without it nobody opens what is sealed in the database.\n", s.keyFile())
	return s.reportNext()
}

// reportNext says what is left to do.
func (s *setup) reportNext() error {
	w := s.say
	if s.waitsForChain() {
		fmt.Fprintf(w, "\nGive %s to your authority, and put what it returns into %s, the server's certificate first.\n", s.csrFile(), s.a.Certificate.Chain)
	}
	if !s.result.Accepted {
		fmt.Fprintf(w, "Mail waits at its senders until somebody confirms the numbers: 'dirpost directory check --accept%s'.\n", s.configFlag())
	}
	if s.result.Next == "" {
		_, err := fmt.Fprintln(w, "The server runs.")
		return err
	}
	_, err := fmt.Fprintf(w, "\nNow run:\n\n  %s\n", s.result.Next)
	return err
}

// reportPlan says what would be done.
func (s *setup) reportPlan() error {
	s.plan()
	if s.asJSON {
		return s.printResult()
	}
	fmt.Fprintln(s.say, "\nThis would be done:")
	for _, line := range s.result.Done {
		fmt.Fprintf(s.say, "   %s\n", line)
	}
	if len(s.result.Done) == 0 {
		fmt.Fprintln(s.say, "   nothing")
	}
	for _, f := range s.staged {
		if f.path == s.path && s.text == nil {
			fmt.Fprintf(s.say, "\n%s would be:\n\n%s", s.path, f.content)
		}
	}
	return nil
}

// plan is what apply would do.
func (s *setup) plan() {
	would := func(format string, args ...any) { s.result.Done = append(s.result.Done, fmt.Sprintf(format, args...)) }
	for _, f := range s.staged {
		if f.path != s.path {
			would("write %s", f.path)
		}
	}
	if s.a.Database.Kind == databasePrivate {
		would("%s; start it if it does not run, bring the schema up to date", s.private.describe())
	} else {
		would("bring the schema of the database up to date")
	}
	if s.prospect != nil {
		would("make the computer account %s in %s", s.prospect.Principal, s.prospect.Domain)
	}
	would("make a signing key for each of %s that has none", strings.Join(s.a.Domains, ", "))
	if s.a.Accept {
		would("take mail for them")
	}
	for _, c := range s.result.Changes {
		if c.Is == "" {
			would("take %s out of %s", c.Key, s.path)
		} else {
			would("set %s = %s in %s", c.Key, c.Is, s.path)
		}
	}
	if s.text == nil {
		would("write %s", s.path)
	}
	if s.waitsForChain() {
		would("write %s", s.csrFile())
	}
}

// configFlag names the configuration to other commands, where that is needed.
func (s *setup) configFlag() string {
	if s.packaged {
		return ""
	}
	return " --config " + s.path
}

// units are where systemd finds the units of the package.
var units = []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// next is the one command that is left to do, "" for none.
func (s *setup) next() string {
	managed := false
	for _, dir := range units {
		if _, err := os.Stat(dir + "/dirpost.service"); err == nil {
			managed = s.packaged
		}
	}
	switch {
	case s.waitsForChain():
		return strings.TrimSpace("dirpost setup" + s.configFlag())
	case s.serves() && !s.result.Changed:
		return ""
	case s.serves() && managed:
		return "systemctl reload dirpost"
	case managed:
		return "systemctl enable --now dirpost.socket dirpost.service"
	}
	return "dirpost serve" + s.configFlag()
}

// serves reports whether a server of this configuration runs here.
func (s *setup) serves() bool {
	conn, err := net.DialTimeout("unix", s.file.Server.Socket, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
