//go:build acceptance

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dirpost/internal/testenv"

	"github.com/go-ldap/ldap/v3"
)

// TestAcceptanceAuthSocket: people submit to a Postfix and to an Exim that ask us
// who they are. The pieces of their configuration are those of docs/auth-socket.md.
func TestAcceptanceAuthSocket(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, s *system, dir, socket string) *peer{"postfix": postfixAsking, "exim": eximAsking} {
		t.Run(name, func(t *testing.T) { checkAuthSocket(t, start) })
	}
}

func checkAuthSocket(t *testing.T, start func(t *testing.T, s *system, dir, socket string) *peer) {
	dir := peerDir(t)
	socket := filepath.Join(dir, "auth")
	s := newSystem(t, fmt.Sprintf("[auth.socket]\npath = %q\nmode = \"0600\"\n", socket))
	p := start(t, s, dir, socket)
	s.start()
	submit := func(user, password string, more ...string) (string, error) {
		t.Helper()
		args := []string{"--server", p.addr, "-tls", "--auth-user", user, "--auth-password", password,
			"--from", "alice@corp.example", "--to", "box@" + p.domain(), "--header", "Subject: from " + user}
		return s.client("swaks", append(args, more...)...)
	}
	for _, mech := range []string{"PLAIN", "LOGIN"} {
		if out, err := submit("alice", s.slapd.UserPassword, "--auth", mech, "--body", "by "+mech); err != nil {
			t.Errorf("%s: %v: %s", mech, err, out)
		}
		got := p.awaitText(t, "by "+mech)
		switch {
		case p.name == "postfix" && !strings.Contains(got, "(Authenticated sender: alice@corp.example)"):
			t.Errorf("the message does not say who sent it:\n%s", got)
		case p.name == "exim" && !strings.Contains(p.lastLog(), "A=dirpost_"+strings.ToLower(mech)+":alice@corp.example"):
			t.Errorf("the log does not say who sent it:\n%s", p.lastLog())
		}
		if out, err := submit("alice", "wrong", "--auth", mech); err == nil || !strings.Contains(out, "* 535") {
			t.Errorf("%s with a wrong password: %v: %s", mech, err, out)
		}
	}
	if out, err := submit("dave", s.slapd.UserPassword, "--auth", "PLAIN"); err == nil || !strings.Contains(out, "* 535") {
		t.Errorf("dave is disabled: %v: %s", err, out)
	} else if p.name == "postfix" && !strings.Contains(out, "Account disabled, ask your administrator") {
		t.Errorf("dave is not told: %s", out)
	}
	if out, err := s.client("swaks", "--server", p.addr, "--auth", "PLAIN", "--auth-user", "alice", "--auth-password", s.slapd.UserPassword, "--quit-after", "AUTH"); err == nil {
		t.Errorf("a password in clear is taken: %s", out)
	}

	// Somebody is disabled while they have been let in before.
	if out, err := submit("carol", s.slapd.UserPassword, "--auth", "PLAIN", "--quit-after", "AUTH"); err != nil {
		t.Fatalf("carol: %v: %s", err, out)
	}
	m := ldap.NewModifyRequest(s.person("carol"), nil)
	m.Replace("dirpostEnabled", []string{"nologin"})
	if err := s.admin().Modify(m); err != nil {
		t.Fatal(err)
	}
	s.eventually("carol is out", func() bool {
		out, err := submit("carol", s.slapd.UserPassword, "--auth", "PLAIN", "--quit-after", "AUTH")
		return err != nil && strings.Contains(out, "* 535")
	})

	// The directory is away: not a wrong password, and who was let in lately still is.
	s.slapd.Stop()
	out, err := submit("bob", s.slapd.UserPassword, "--auth", "PLAIN", "--quit-after", "AUTH")
	if err == nil || !strings.Contains(out, "* 454") && !strings.Contains(out, "* 435") {
		t.Errorf("with the directory away: %v: %s", err, out)
	}
	if out, err := submit("alice", s.slapd.UserPassword, "--auth", "PLAIN", "--quit-after", "AUTH"); err != nil {
		t.Errorf("a password that is remembered, with the directory away: %v: %s", err, out)
	}
	s.slapd.Start(t)
	s.eventually("bob is in", func() bool {
		_, err := submit("bob", s.slapd.UserPassword, "--auth", "PLAIN", "--quit-after", "AUTH")
		return err == nil
	})
	t.Logf("%s: PLAIN and LOGIN, wrong password, disabled, directory away and back", p.name)
}

// postfixAsking starts a Postfix that takes mail for its domain from who has logged
// in.
func postfixAsking(t *testing.T, s *system, dir, socket string) *peer {
	t.Helper()
	program := testenv.Need(t, "postfix")
	p := &peer{name: "postfix", addr: freeAddress(t), config: filepath.Join(dir, "etc"), log: filepath.Join(dir, "log"), boxes: filepath.Join(dir, "mail/box/new/*")}
	owner := postfixUser(t)
	mustMkdir(t, p.config, -1)
	mustMkdir(t, filepath.Join(dir, "queue"), -1)
	mustMkdir(t, filepath.Join(dir, "mail"), nobody)
	mustMkdir(t, filepath.Join(dir, "data"), owner)
	s.change("mode = \"0600\"", "mode = \"0600\"\nowner = \"postfix\"")
	mustWrite(t, filepath.Join(p.config, "main.cf"), fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.postfix.example
mydestination =
mynetworks =
virtual_mailbox_domains = postfix.example
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:%[2]d
virtual_gid_maps = static:%[2]d
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtpd_tls_chain_files = %[3]s
smtpd_tls_security_level = may
smtpd_tls_auth_only = no
smtpd_relay_restrictions =
smtpd_sasl_authenticated_header = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = %[4]s
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
`, dir, nobody, s.chain(t, dir), socket), 0o644)
	postfixServices(t, p)
	launch(t, p.addr, p.log, exec.Command(program, "-c", p.config, "start-fg"))
	return p
}

// eximWithDovecot are the packages of the Exim that knows the protocol.
var eximWithDovecot = []string{"exim4-daemon-heavy", "exim4-base"}

// eximAsking starts an Exim that takes mail for its domain from who has logged in.
func eximAsking(t *testing.T, s *system, dir, socket string) *peer {
	t.Helper()
	unpacked, err := unpackExim("exim-heavy", eximWithDovecot)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	program := mustWrite(t, filepath.Join(dir, "exim4"), string(b), 0o755)
	p := &peer{name: "exim", addr: freeAddress(t), config: filepath.Join(dir, "exim.conf"), log: filepath.Join(dir, "log/main"), boxes: filepath.Join(dir, "mail/*.eml")}
	for _, d := range []string{"spool", "log", "mail"} {
		mustMkdir(t, filepath.Join(dir, d), nobody)
	}
	s.change("mode = \"0600\"", fmt.Sprintf("mode = \"0600\"\nowner = \"%d\"", nobody))
	host, port, _ := strings.Cut(p.addr, ":")
	mustWrite(t, p.config, fmt.Sprintf(`exim_user = %[2]d
exim_group = %[2]d
primary_hostname = mail.exim.example
spool_directory = %[1]s/spool
log_file_path = %[1]s/log/%%s
pid_file_path = %[1]s/pid
local_interfaces = %[3]s
daemon_smtp_ports = %[4]s
host_lookup =
rfc1413_hosts =
tls_advertise_hosts = *
tls_certificate = %[5]s
auth_advertise_hosts = ${if eq {$tls_in_cipher}{}{}{*}}
acl_smtp_rcpt = take
acl_smtp_data = accept
never_users =
keep_environment = LD_PRELOAD : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
exim_path = %[7]s
begin acl
take:
  accept authenticated = *
  deny
begin routers
ours:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  file = %[1]s/mail/$message_exim_id.eml
  user = %[2]d
  group = %[2]d
  mode = 0644
  message_prefix =
  message_suffix =
begin retry
begin authenticators
dirpost_plain:
  driver = dovecot
  public_name = PLAIN
  server_socket = %[6]s
  server_set_id = $auth1
dirpost_login:
  driver = dovecot
  public_name = LOGIN
  server_socket = %[6]s
  server_set_id = $auth1
`, dir, nobody, host, port, s.chain(t, dir), socket, program), 0o644)
	passwd := mustWrite(t, filepath.Join(dir, "passwd"), fmt.Sprintf("root:x:0:0::/:/bin/sh\nDebian-exim:x:%[1]d:%[1]d::/:/bin/false\n", nobody), 0o644)
	group := mustWrite(t, filepath.Join(dir, "group"), fmt.Sprintf("root:x:0:\nDebian-exim:x:%d:\n", nobody), 0o644)
	cmd := exec.Command(program, "-C", p.config, "-bdf", "-q5s")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LD_PRELOAD=libnss_wrapper.so", "NSS_WRAPPER_PASSWD=" + passwd, "NSS_WRAPPER_GROUP=" + group}
	launch(t, p.addr, p.log, cmd)
	return p
}

// chain is a file with key and certificate, as Postfix and Exim read them before
// they give up being root.
func (s *system) chain(t *testing.T, dir string) string {
	t.Helper()
	var all []byte
	for _, f := range []string{s.cert.KeyFile, s.cert.CertFile} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	path := mustWrite(t, filepath.Join(dir, "chain.pem"), string(all), 0o600)
	if err := os.Chown(path, nobody, -1); err != nil { // Exim reads it as its user
		t.Fatal(err)
	}
	return path
}

// postfixUser is the number of the user postfix.
func postfixUser(t *testing.T) (uid int) {
	t.Helper()
	out, err := exec.Command("id", "-u", "postfix").Output()
	if err == nil {
		_, err = fmt.Sscan(string(out), &uid)
	}
	if err != nil {
		t.Fatalf("the user postfix: %v", err)
	}
	return uid
}
