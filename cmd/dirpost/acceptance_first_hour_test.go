//go:build acceptance

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dirpost/internal/testenv"

	"github.com/emersion/go-smtp"
)

// What the second half of the first hour, in a network of its own, is told by the first.
const (
	firstHourRoot      = "DIRPOST_FIRST_HOUR_ROOT"
	firstHourDirectory = "DIRPOST_FIRST_HOUR_DIRECTORY"
)

// publicAddress is where the server of the first hour is (RFC 5737 §3).
const publicAddress = "192.0.2.25"

// TestAcceptanceFirstHour: a Debian that has nothing becomes a company's mail server
// by the package, `dirpost setup` and the DNS records that it prints, once with
// OpenLDAP and once joined to Active Directory; and somebody who knows an address and a
// password has their mail in Thunderbird. It prints how long each step took.
//
// No service manager runs in the Debian: the ports are opened by
// systemd-socket-activate instead of dirpost.socket, and the ExecStart line of
// dirpost.service is run as its User. What is not shown is the hardening, which
// TestAcceptancePackage has judged by systemd-analyze.
func TestAcceptanceFirstHour(t *testing.T) {
	if root := os.Getenv(firstHourRoot); root != "" {
		firstHour(t, root, os.Getenv(firstHourDirectory))
		return
	}
	root := debian(t, "systemd", "procps")
	likeHere(t, root)
	output(t, "make", "-C", "../..", "deb", "VERSION=1.0")
	output(t, "sh", "-euc", `cp ../../dist/dirpost_1.0_*.deb "$0/root/dirpost.deb"`, root)
	t.Run("install", func(t *testing.T) { // its processes end with it
		m := newMachine(t, root)
		m.run("apt-get -q update")
		_, took := m.run("apt-get -q -y install --no-install-recommends /root/dirpost.deb postgresql")
		t.Logf("FIRST HOUR: package and PostgreSQL installed in %.1f s", took.Seconds())
	})
	for _, directory := range []string{"openldap", "ad"} {
		t.Run(directory, func(t *testing.T) {
			own := filepath.Join(t.TempDir(), "root")
			output(t, "cp", "-a", root, own)
			cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--mount", "sh", "-euc", `
mount --make-rprivate /
ip link set lo up
ip address add `+publicAddress+`/32 dev lo
echo "nameserver 127.0.0.1" >"$0/etc/resolv.conf"
mount --bind "$0/etc/resolv.conf" /etc/resolv.conf
exec "$@"`, own, os.Args[0], "-test.run=^TestAcceptanceFirstHour$", "-test.v", "-test.timeout=15m")
			cmd.Env = append(os.Environ(), firstHourRoot+"="+own, firstHourDirectory+"="+directory)
			out, err := cmd.CombinedOutput()
			t.Logf("in its own network:\n%s", out)
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// firstHour is what comes after the installation.
func firstHour(t *testing.T, root, directory string) {
	m := newMachine(t, root)
	host := "mail.corp.example"
	zone := []string{host + ". IN A " + publicAddress}
	cert := testenv.Certificate(t, host, "corp.example", "autoconfig.corp.example", "autodiscover.corp.example", "mta-sts.corp.example")
	m.write("/etc/dirpost/tls/chain.pem", read(t, cert.CertFile), 0o644)
	m.write("/etc/dirpost/tls/key.pem", read(t, cert.KeyFile), 0o640)
	m.run("chgrp dirpost /etc/dirpost/tls/key.pem")
	var name, password, authority, answers string
	switch directory {
	case "openldap":
		d := testenv.Slapd(t)
		authority = read(t, d.CAFile)
		m.write("/root/ldap.password", d.ServicePassword, 0o600)
		name, password = "alice", d.UserPassword
		answers = fmt.Sprintf("kind = \"account\"\nurls = [%q]\nbind_dn = %q\nbind_password = \"file:/root/ldap.password\"\n", d.TLSURL, d.ServiceDN)
	case "ad":
		d := testenv.AD(t)
		authority = d.CA
		m.write("/root/admin.password", d.AdminPassword, 0o600)
		name, password = "alice", d.UserPassword
		answers = "kind = \"join\"\ndomain = \"corp.example\"\nadmin_password = \"file:/root/admin.password\"\n"
		zone = append(zone, d.Host+". IN A "+d.Address)
		for _, service := range []string{"_ldap._tcp.dc._msdcs", "_ldap._tcp"} {
			zone = append(zone, service+".corp.example. IN SRV 0 100 389 "+d.Host+".")
		}
	}
	names := testenv.DNSAt(t, "127.0.0.1:53", zone...)
	m.write("/usr/local/share/ca-certificates/corp.crt", authority, 0o644)
	m.write("/root/answers.toml", fmt.Sprintf(`domains = ["corp.example"]
host = %q
postmaster = "alice@corp.example"
addresses = [%q]
inside = ["192.0.2.0/24"]
accept = true
[directory]
ca = "/usr/local/share/ca-certificates/corp.crt"
%s[database]
kind = "private"
[certificate]
kind = "files"
chain = "/etc/dirpost/tls/chain.pem"
key = "/etc/dirpost/tls/key.pem"
`, host, publicAddress, answers), 0o600)
	began := time.Now()
	_, took := m.run("dirpost setup --answers /root/answers.toml")
	t.Logf("FIRST HOUR (%s): setup done in %.1f s", directory, took.Seconds())

	log := new(lockedBuffer)
	m.serve(m.unit(), log)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server says\n%s", log.String())
		}
	})
	out, _ := m.run("dirpost dns records --json --address " + publicAddress)
	for line := range strings.Lines(out) {
		var r dnsRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		zone = append(zone, r.Name+" IN "+r.Type+" "+r.Data)
	}
	names.Set(t, zone...)
	m.run("dirpost dns check --address " + publicAddress)

	msg := "From: Friend <friend@partner.example>\r\nTo: " + name + "@corp.example\r\nSubject: Welcome\r\nDate: " + time.Now().Format(time.RFC1123Z) + "\r\n\r\nYou have found it.\r\n"
	deliver := func() error {
		c, err := smtp.Dial(net.JoinHostPort(publicAddress, "25"))
		if err != nil {
			return err
		}
		defer c.Close()
		return c.SendMail("friend@partner.example", []string{name + "@corp.example"}, strings.NewReader(msg))
	}
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = deliver(); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("the first mail is not taken: %v", err)
	}
	t.Logf("FIRST HOUR (%s): the first mail is taken %.1f s after the beginning of setup", directory, time.Since(began).Seconds())
	b := newThunderbird(t, "", cert.CAFile, nil)
	t.Logf("Thunderbird has found: %s", b.setUp("Alice Example", name+"@corp.example", password))
	b.open("Welcome", "You have found it.")
	b.shot("first-hour-" + directory)
	t.Logf("FIRST HOUR (%s): read in Thunderbird %.1f s after the first letter typed there, %.1f s after the beginning of setup", directory, time.Since(b.typed).Seconds(), time.Since(began).Seconds())
	b.send(name+"@corp.example", "Reply", "It was easy.")
	b.open("Reply", "It was easy.")
}

// read returns a file's content.
func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// unit is the command line that does what the units of the package say.
func (m *machine) unit() string {
	m.t.Helper()
	values := func(file, key string) (values []string) {
		for line := range strings.Lines(read(m.t, filepath.Join(m.root, "lib/systemd/system", file))) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
				values = append(values, v)
			}
		}
		return values
	}
	user := values("dirpost.service", "User")[0]
	line := "install -d -o " + user + " -g " + user + " /run/dirpost && exec systemd-socket-activate"
	for _, port := range values("dirpost.socket", "ListenStream") {
		line += " --listen=" + port
	}
	// systemd gives a service the home of its user.
	return line + " env HOME=/nonexistent setpriv --reuid=" + user + " --regid=" + user + " --init-groups --no-new-privs --inh-caps=-all " + values("dirpost.service", "ExecStart")[0]
}
