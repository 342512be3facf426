package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/child"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// patient is a system that is healthy until a test breaks it.
type patient struct {
	*system
	dns    *testenv.DNSServer
	zone   []string
	realm  *testenv.Realm
	mailTo string // for the way out
	stop   func() // the node
	hide   map[string]string
}

// newPatient makes everything but the node.
func newPatient(t *testing.T, realm *testenv.Realm, url string) *patient {
	t.Helper()
	server := testenv.DNS(t)
	p := &patient{system: newSystemOn(t, url, fmt.Sprintf("resolvers = [%q]", server.Addr)), dns: server, realm: realm, hide: make(map[string]string)}
	cert := testenv.Certificate(t, "mail.corp.example", "mta-sts.corp.example", "autoconfig.corp.example", "autodiscover.corp.example", "localhost", "127.0.0.1")
	p.certify(cert)
	p.change("[auth]\n", "[auth]\ninside = [\"127.0.0.0/8\"]\n")
	p.change("[log]", "[system]\nlandlock = \"off\"\n[log]") // whatever the kernel has
	p.mailTo = p.addr["smtp"]
	if realm != nil {
		keytab := filepath.Join(p.dir, "keytab")
		if err := os.WriteFile(keytab, realm.Keytab(t, "imap/mail.corp.example", "pop/mail.corp.example", "smtp/mail.corp.example", "HTTP/mail.corp.example"), 0o600); err != nil {
			t.Fatal(err)
		}
		p.change("[[tls.certificate]]", "[auth.kerberos]\nkeytab = \"file:"+keytab+"\"\n[[auth.kerberos.realm]]\nname = \"CORP.EXAMPLE\"\nlogin = \"name\"\ndirectory = \"corp\"\n[[tls.certificate]]")
	}
	return p
}

// certify gives the node another certificate.
func (p *patient) certify(c testenv.Cert) {
	p.t.Helper()
	p.change(p.cert.CertFile, c.CertFile)
	p.change(p.cert.KeyFile, c.KeyFile)
	p.cert = c
}

// publish makes the DNS say what `dns records` prints, and what the realm needs.
func (p *patient) publish() {
	p.t.Helper()
	p.command(0, "dkim", "create", "corp.example", "--selector", "one")
	for line := range strings.Lines(p.command(0, "dns", "records", "--address", "127.0.0.1")) {
		if line = strings.TrimSpace(line); line != "" && line[0] != ';' {
			p.zone = append(p.zone, line)
		}
	}
	if p.realm != nil {
		host, port, err := net.SplitHostPort(p.realm.KDC)
		if err != nil {
			p.t.Fatal(err)
		}
		p.zone = append(p.zone, "_kerberos._tcp.corp.example. IN SRV 0 0 "+port+" kdc.corp.example.", "kdc.corp.example. IN A "+host)
		p.hide[p.realm.KDC] = "KDC"
	}
	p.dns.Set(p.t, p.zone...)
}

// replace makes the DNS say text in the place of the records that contain old; ""
// is nothing.
func (p *patient) replace(old, text string) {
	p.t.Helper()
	var zone []string
	for _, r := range p.zone {
		if !strings.Contains("\t"+r, old) {
			zone = append(zone, r)
		}
	}
	if len(zone) == len(p.zone) {
		p.t.Fatalf("there is no record %q in %q", old, p.zone)
	}
	if text != "" {
		zone = append(zone, text)
	}
	p.zone = zone
	p.dns.Set(p.t, zone...)
}

// superuser runs a statement on the database as its administrator.
func (p *patient) superuser(sql string) {
	p.t.Helper()
	db := testenv.OpenDatabase(p.t, strings.Replace(p.file.Database.URL, "dirpost_serve@", "postgres@", 1))
	if _, err := db.Exec(p.t.Context(), postgres.Background, sql); err != nil {
		p.t.Fatal(err)
	}
}

// examine runs doctor, and returns its exit code and what it says, without what is
// another at each run, or on each machine: that has no part in the code either.
func (p *patient) examine(args ...string) (int, string) {
	p.t.Helper()
	var out strings.Builder
	code := run(p.t.Context(), append([]string{"dirpost", "doctor", "--config", p.config, "--mail-to", p.mailTo}, args...), streams{nil, &out, &out})
	if want := codeOf(out.String()); code != want {
		p.t.Errorf("exit %d, want %d: %s", code, want, out.String())
	}
	text := p.normal(out.String())
	return codeOf(text), text
}

// codeOf is the exit code of a report.
func codeOf(text string) int {
	switch text = "\n" + text; {
	case strings.Contains(text, "\nerror "):
		return 1
	case strings.Contains(text, "\nwarning "):
		return 2
	}
	return 0
}

var changing = []struct{ what, instead string }{
	{`\b\d+d\d+h\b|\b\d+h\d+m\b|\b\d+m\d+s\b|\b\d+s\b`, "TIME"},
	{`\b\d+(\.\d)? (B|KiB|MiB|GiB|TiB)\b`, "SIZE"},
	{`SIZE, of it SIZE in \w+`, "SIZE, of it SIZE in TABLE"},
	{`PostgreSQL \d\S*( \([^)]*\))?,`, "PostgreSQL VERSION,"},
	{`version \d+, \d+ entries`, "version N, N entries"},
	{`on \d{4}-\d\d-\d\d`, "on DATE"},
	{`database dirpost_\w+|database test\w*`, "database NAME"},
	// How full the disks and the servers of this machine are is not the question.
	{`(?m)^(ok|warning|error|unknown) +disk .*\n( +→ .*\n)?`, ""},
	{`left_behind has \d+ beside \d+ that live`, "left_behind has N beside N that live"},
	{`(?m)^(ok|warning) +connections .*\n( +→ .*\n)?`, ""},
	{`(?m)^In all: .*\n`, ""}, // these count
	{`\( "v=DKIM1;[^)]*\)`, "KEY"},
	{`none of ours is open for long; of \d+ sessions .*`, "none is open for long"}, // the tests' own
}

// normal takes away what is another at each run.
func (p *patient) normal(text string) string {
	for what, instead := range p.hide {
		text = strings.ReplaceAll(text, what, instead)
	}
	for name, address := range p.addr {
		text = strings.ReplaceAll(text, address, "127.0.0.1:{"+name+"}")
		_, port, _ := net.SplitHostPort(address)
		text = regexp.MustCompile(`\b`+port+`\b`).ReplaceAllString(text, "{"+name+"}")
	}
	text = strings.NewReplacer(p.dir, "DIR", p.cert.CertFile, "CERTIFICATE", p.slapd.TLSURL, "LDAP", strings.TrimPrefix(p.slapd.TLSURL, "ldaps://"), "LDAP", p.dns.Addr, "RESOLVER").Replace(text)
	for _, c := range changing {
		text = regexp.MustCompile(c.what).ReplaceAllString(text, c.instead)
	}
	return text
}

// golden compares what doctor says with a file.
func (p *patient) golden(name, got string) {
	p.t.Helper()
	path := filepath.Join("testdata", "doctor", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	if got != string(want) {
		p.t.Errorf("doctor says\n%s\nwant\n%s", got, want)
	}
}

// TestDoctor: what doctor says of a healthy system, and of each that is broken in one
// way. The files in testdata/doctor are its report.
func TestDoctor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		code   int
		before func(p *patient) // the node starts
		broken func(p *patient)
		only   string // further flags
	}{
		{"healthy", 0, nil, nil, ""},
		{"directory-away", 1, nil, func(p *patient) { p.slapd.Stop() }, "--only=directory,logins,queue,dns"},
		{"password-wrong", 1, nil, func(p *patient) {
			if err := os.WriteFile(filepath.Join(p.dir, "ldap"), []byte("another"), 0o600); err != nil {
				p.t.Fatal(err)
			}
		}, ""},
		{"rights-missing", 1, nil, func(p *patient) {
			p.slapd.Stop() // its rules are read at the start
			p.slapd.Allow(p.t, "access to attrs=mail,dirpostAddress,dirpostAlias by dn.exact=\""+p.slapd.ServiceDN+"\" none by * break\n")
		}, "--only=directory"},
		{"certificate-expired", 1, func(p *patient) {
			p.certify(testenv.ExpiredCertificate(p.t, "mail.corp.example", "mta-sts.corp.example", "autoconfig.corp.example"))
		}, nil, ""},
		{"commits-lost", 1, nil, func(p *patient) {
			p.superuser(`do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$`)
		}, ""},
		{"queue-stuck", 2, nil, func(p *patient) {
			p.dns.Fail("partner.example", dns.RcodeServerFailure)
			if err := p.submit("alice", "alice@corp.example", []string{"friend@partner.example"}, "From: alice@corp.example\r\nSubject: x\r\n\r\nx\r\n"); err != nil {
				p.t.Fatal(err)
			}
			awaitTaken(p.t, func() error { // until it was tried
				if out := p.command(0, "queue", "list"); !strings.Contains(out, "4.4.3") {
					return fmt.Errorf("not tried yet: %s", out)
				}
				return nil
			})
			p.superuser(`update outq_msg set accepted_at = accepted_at - interval '7 hours'`)
		}, "--only=queue"},
		{"nobody-sends", 1, nil, func(p *patient) {
			p.stop()
			p.serve(roleMSA)
			awaitTaken(p.t, func() error {
				return p.submit("alice", "alice@corp.example", []string{"friend@partner.example"}, "From: alice@corp.example\r\nSubject: x\r\n\r\nx\r\n")
			})
			p.superuser(`update outq set next_at = next_at - interval '3 hours'`)
		}, "--only=queue"},
		{"dns-wrong", 1, nil, func(p *patient) {
			p.replace("\tMX\t", "corp.example. IN MX 10 mail.example.net.")
			p.replace("spf1", `corp.example. IN TXT "v=spf1 -all"`)
			p.replace("one._domainkey", "")
			p.replace("in-addr", "1.0.0.127.in-addr.arpa. IN PTR host.example.net.")
			p.replace("_imaps", "")
		}, ""},
		{"node-away", 2, nil, func(p *patient) { p.stop() }, "--only=ports"},
		{"door-not-answered", 2, func(p *patient) {
			p.change("inside = [\"127.0.0.0/8\"]\n", "masters = [\"cn=masters,dc=corp,dc=example\", \"cn=it,ou=groups,dc=corp,dc=example\"]\n")
		}, nil, "--only=logins,replica"},
		{"ports-closed", 1, nil, func(p *patient) {
			p.replace("\tA\t", "mail.corp.example. IN A 127.0.0.3") // where nobody listens
			closed := freeAddress(p.t)
			p.change("[[listener]]", fmt.Sprintf("[[listener]]\naddress = %q\nprotocol = \"imap\"\n[[listener]]", closed))
			p.addr["closed"] = closed
			p.mailTo = closed
		}, "--only=ports,outbound"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, nil, databaseURL(t))
			p.confirm()
			if c.before != nil {
				c.before(p)
			}
			p.publish()
			p.stop = p.start()
			if c.broken != nil {
				c.broken(p)
			}
			var args []string
			if c.only != "" {
				args = append(args, c.only)
			}
			code, out := p.examine(args...)
			if code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			p.golden(c.name, out)
		})
	}
}

// TestDoctorSchema: a database that was not migrated, on which no node starts.
func TestDoctorSchema(t *testing.T) {
	t.Parallel()
	url := testenv.DurablePostgresURL(t)
	files, err := postgres.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	if err := postgres.MigrateTo(t.Context(), url, files[:len(files)-1], postgres.Roles{Serve: "dirpost_serve", Read: "dirpost_read"}, testLog(t)); err != nil {
		t.Fatal(err)
	}
	p := newPatient(t, nil, strings.Replace(url, "postgres://postgres@", "postgres://dirpost_serve@", 1))
	p.hide[files[len(files)-1].Name] = "MIGRATION"
	code, out := p.examine("--only=configuration,database,replica,queue,kerberos")
	if code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	p.golden("schema-behind", out)
}

// TestDoctorDatabase: a database that goes on, and in which a lot is wrong.
func TestDoctorDatabase(t *testing.T) {
	t.Parallel()
	server := testenv.NewCrashPostgres(t)
	db := testenv.OpenDatabase(t, server.URL())
	does := func(all ...string) {
		t.Helper()
		for _, sql := range all {
			if _, err := db.Exec(t.Context(), postgres.Background, sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	does(`alter system set autovacuum = off`,
		`select pg_reload_conf()`,
		`select pg_create_physical_replication_slot('backup', true)`,
		`create table left_behind as select generate_series(1, 120000) as n`,
		`delete from left_behind`,
		`select pg_stat_force_next_flush()`, // else the count of rows comes seconds later
		`do $$ begin execute format('alter database %I connection limit 12', current_database()); end $$`,
		`create role dirpost_serve login`)
	p := newPatient(t, nil, server.URL())
	await := func(words ...string) {
		t.Helper()
		awaitTaken(t, func() error { // the processes of the server read its files and count a moment later
			_, out := p.examine("--only=database")
			for _, w := range words {
				if !strings.Contains(out, w) {
					return fmt.Errorf("doctor does not say %q: %s", w, out)
				}
			}
			return nil
		})
	}

	stop := receiveWAL(t, server.URL(), "backup")
	await("1, none of them synchronous")
	p.change("postgres://postgres@", "postgres://dirpost_serve@")
	await("there are 1; our role may not see how they do")
	p.change("postgres://dirpost_serve@", "postgres://postgres@")
	stop()
	does(`alter system set synchronous_standby_names = 'ghost'`, `select pg_reload_conf()`) // the last that is committed
	await("ghost", "left_behind has", "autovacuum is off", "nobody reads the replication slot backup")
	code, out := p.examine("--only=database")
	if code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	p.golden("database-sick", out)
	server.Stop()
	if code, out = p.examine("--only=database,queue"); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	p.golden("database-away", regexp.MustCompile(`connect to \S+:`).ReplaceAllString(out, "connect to SOCKET:"))
}

// receiveWAL runs what follows a server as a standby does, by a replication slot.
func receiveWAL(t *testing.T, url, slot string) (stop func()) {
	t.Helper()
	programs, err := child.FindPostgres(0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := child.Start(child.Command{Path: programs.Bin + "/pg_receivewal", Args: []string{"-D", t.TempDir(), "-d", url, "-S", slot, "--no-loop"}, Stop: syscall.SIGTERM, Kill: syscall.SIGKILL})
	if err != nil {
		t.Fatal(err)
	}
	stop = func() { p.Stop(5 * time.Second) }
	t.Cleanup(stop)
	return stop
}

// TestDoctorClock: the KDC's clock is another than ours.
func TestDoctorClock(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"kerberos": 0, "clock-wrong": -20 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, testenv.StartRealmAt(t, "CORP.EXAMPLE", ahead), databaseURL(t))
			p.confirm()
			p.publish()
			p.start()
			code, out := p.examine("--only=kerberos,logins")
			if want := map[bool]int{true: 0, false: 1}[ahead == 0]; code != want {
				t.Errorf("exit %d, want %d", code, want)
			}
			p.golden(name, out)
		})
	}
}

// TestDoctorDisk: a file system that is as good as full.
func TestDoctorDisk(t *testing.T) {
	t.Parallel()
	p := newPatient(t, nil, databaseURL(t))
	dir := filepath.Join(p.dir, "full")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount a small file system: %v (go test -exec 'sudo -E', as for the tests with a domain controller)", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	p.change(filepath.Join(p.dir, "sock"), filepath.Join(dir, "sock"))
	about := func() string {
		t.Helper()
		var out strings.Builder
		run(t.Context(), []string{"dirpost", "doctor", "--config", p.config, "--only", "disk"}, streams{nil, &out, &out})
		for line := range strings.Lines(out.String()) {
			if strings.Contains(line, dir) {
				return line
			}
		}
		return out.String()
	}
	if got := about(); !strings.HasPrefix(got, "ok ") {
		t.Errorf("with nothing on it: %s", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 1<<20-8192), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := about(); !strings.HasPrefix(got, "error    disk ") {
		t.Errorf("full: %s", got)
	}
}

// TestSpace: when a disk is nearly full.
func TestSpace(t *testing.T) {
	t.Parallel()
	const g = 1 << 30
	for name, c := range map[string]struct {
		s    space
		want string
	}{
		"empty":                    {space{100 * g, 100 * g, 1000000, 1000000}, stateOK},
		"nothing left":             {space{100 * g, 0, 1000000, 1000000}, stateError},
		"one percent":              {space{100 * g, g, 0, 0}, stateError},
		"five percent":             {space{100 * g, 5 * g, 0, 0}, stateWarning},
		"five percent of much":     {space{1000 * g, 50 * g, 0, 0}, stateOK},
		"a little one, half full":  {space{5 << 20, 2 << 20, 1000, 900}, stateOK},
		"a few octets of a middle": {space{2 * g, 60 << 20, 0, 0}, stateError},
		"no inodes":                {space{100 * g, 50 * g, 1000000, 100}, stateError},
		"few inodes":               {space{100 * g, 50 * g, 1000000, 50000}, stateWarning},
		"inodes not counted":       {space{100 * g, 50 * g, 0, 0}, stateOK},
	} {
		if got := c.s.state(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestDoctorReport: the form for programs, and that nothing is coloured where nobody
// looks.
func TestDoctorReport(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := newReport(true, streams{nil, &out, &out})
	all := []finding{{"disk", stateWarning, "DIR: 1 B free", "make room"}, {"clock", stateOK, "agrees", ""}, {"queue", stateWarning, "old", ""}}
	r.print(all)
	if err := r.end(); err != exitCode(2) {
		t.Errorf("ends with %v", err)
	}
	var people strings.Builder
	plain := newReport(false, streams{nil, &people, &people})
	plain.print(all)
	if err := plain.end(); err != exitCode(2) || !strings.HasSuffix(people.String(), "\nIn all: 2 warnings, 1 ok.\n") || strings.Contains(people.String(), "\x1b") {
		t.Errorf("ends with %v: %s", err, people.String())
	}
	var first finding
	if err := json.NewDecoder(strings.NewReader(out.String())).Decode(&first); err != nil || first.State != stateWarning || first.Do != "make room" || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%v: %s", err, out.String())
	}
	code, text := 0, new(strings.Builder)
	if code = run(t.Context(), []string{"dirpost", "doctor", "--config", "/nowhere/dirpost.toml"}, streams{nil, text, text}); code != 1 || !strings.Contains(text.String(), "there is no configuration file") {
		t.Errorf("without a configuration: exit %d: %s", code, text)
	}
	text.Reset()
	if code = run(t.Context(), []string{"dirpost", "doctor", "--only", "disk,moon"}, streams{nil, text, text}); code != 1 || !strings.Contains(text.String(), "there is no such check") {
		t.Errorf("a check that is not there: exit %d: %s", code, text)
	}
}

// TestDoctorGivesUp: a check that does not end is given up, and does not keep the
// others waiting.
func TestDoctorGivesUp(t *testing.T) {
	t.Parallel()
	d := &doctor{shared: &sharedDatabase{ready: make(chan struct{})}}
	defer close(d.shared.ready)
	never := make(chan struct{})
	defer close(never)
	stuck := d.start(t.Context(), check{"stuck", time.Millisecond, needsNothing, func(*doctor, context.Context) { <-never }})
	quick := d.start(t.Context(), check{"quick", time.Minute, needsNothing, func(d *doctor, _ context.Context) { d.ok("quick", "is done") }})
	<-quick.done
	if got := quick.doctor.findings(); len(got) != 1 || got[0].State != stateOK {
		t.Errorf("the quick one says %+v", got)
	}
	<-stuck.done
	if got := stuck.doctor.findings(); len(got) != 1 || got[0].State != stateError || got[0].Subject != "stuck" {
		t.Errorf("the stuck one says %+v", got)
	}
}

// TestDoctorOutside: the ports as strangers see them.
func TestDoctorOutside(t *testing.T) {
	t.Parallel()
	s := newSystem(t, fmt.Sprintf("resolvers = [%q]", testenv.DNS(t).Addr))
	s.serve(roleIMAP, roleMX)
	_, port, _ := net.SplitHostPort(s.addr["imaps"])
	if f := strangerAt(t.Context(), "127.0.0.1", port, "imap", true, "nobody reads"); f.State != stateOK || !strings.Contains(f.Text, "answers with IMAP, its certificate ends in") {
		t.Errorf("%+v", f)
	}
	if out := s.command(2, "doctor", "--only=ports", "--roles=imap,mx,pop"); !strings.Contains(out, "no answer from pop3 on") || strings.Contains(out, "submission") {
		t.Errorf("a node with three roles, of which one does not run: %s", out)
	}
	_, port, _ = net.SplitHostPort(s.addr["smtp"])
	if f := strangerAt(t.Context(), "127.0.0.1", port, "imap", false, "nobody reads"); f.State != stateWarning || !strings.Contains(f.Text, `does not speak imap: it says "220 mail.corp.example`) {
		t.Errorf("%+v", f)
	}
	_, port, _ = net.SplitHostPort(s.addr["submissions"])
	if f := strangerAt(t.Context(), "127.0.0.1", port, "submission", true, "nobody sends"); f.State != stateWarning || !strings.Contains(f.Text, "connection refused: nobody sends") {
		t.Errorf("%+v", f)
	}
}
