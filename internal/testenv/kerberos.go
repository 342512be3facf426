package testenv

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/child"
)

// Realm is a private realm of MIT Kerberos: a KDC with a database of its own. It
// needs no root. Passwords of people are their names.
type Realm struct {
	Name string // CORP.EXAMPLE
	KDC  string // host:port

	dir string
	env []string
}

// realms counts those of this binary.
var realms atomic.Int64

// StartRealm starts a realm for this test alone; it ends with the test.
func StartRealm(t testing.TB, name string) *Realm {
	t.Helper()
	return StartRealmAt(t, name, 0)
}

// StartRealmAt is StartRealm with a KDC whose clock is so much ahead of ours.
func StartRealmAt(t testing.TB, name string, ahead time.Duration) *Realm {
	t.Helper()
	base, err := scratch()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, fmt.Sprintf("kdc%d", realms.Add(1)))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &Realm{Name: name, KDC: net.JoinHostPort("127.0.0.1", freePort(t, "127.0.0.1")), dir: dir}
	r.env = []string{"KRB5_CONFIG=" + filepath.Join(dir, "krb5.conf"), "KRB5_KDC_PROFILE=" + filepath.Join(dir, "kdc.conf")}
	for file, text := range map[string]string{"krb5.conf": kerberosConfig(map[string]string{name: r.KDC}), "kdc.conf": r.config()} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.start(ctx, t, fakeClock(t, ahead)); err != nil {
		t.Fatalf("private realm of Kerberos: %v (deploy/install-packages.sh run ad test installs what is missing)", err)
	}
	return r
}

// config is kdc.conf(5).
func (r *Realm) config() string {
	return fmt.Sprintf(`[kdcdefaults]
  kdc_listen = ""
  kdc_tcp_listen = %[2]s
[realms]
  %[1]s = {
    database_name = %[3]s/principal
    key_stash_file = %[3]s/stash
    supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal aes256-cts-hmac-sha384-192:normal aes128-cts-hmac-sha256-128:normal
    max_life = 10h
  }
[logging]
  kdc = FILE:%[3]s/log
`, r.Name, r.KDC, r.dir)
}

// kerberosConfig is krb5.conf(5) for clients and servers of some realms: name -> KDC.
// Nothing is asked of the DNS, and no name is made another.
func kerberosConfig(kdcs map[string]string) string {
	names := slices.Sorted(maps.Keys(kdcs))
	var b strings.Builder
	fmt.Fprintf(&b, "[libdefaults]\n  default_realm = %s\n  dns_lookup_kdc = false\n  dns_lookup_realm = false\n  dns_canonicalize_hostname = false\n  rdns = false\n  udp_preference_limit = 1\n[realms]\n", names[0])
	for _, name := range names {
		fmt.Fprintf(&b, "  %s = {\n    kdc = %s\n  }\n", name, kdcs[name])
	}
	b.WriteString("[domain_realm]\n")
	for _, name := range names {
		fmt.Fprintf(&b, "  .%[1]s = %[2]s\n  %[1]s = %[2]s\n", strings.ToLower(name), name)
	}
	return b.String()
}

// fakeClock is the environment of a program whose clock is so much ahead, nil for one
// with the right clock.
func fakeClock(t testing.TB, ahead time.Duration) []string {
	t.Helper()
	if ahead == 0 {
		return nil
	}
	found, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if err != nil || len(found) == 0 {
		t.Fatal("there is no libfaketime: deploy/install-packages.sh run test installs it")
	}
	return []string{"LD_PRELOAD=" + found[0], fmt.Sprintf("FAKETIME=%+ds", int64(ahead/time.Second)), "FAKETIME_DONT_FAKE_MONOTONIC=1"}
}

func (r *Realm) start(ctx context.Context, t testing.TB, more []string) error {
	run := func(program string, args ...string) error {
		_, err := child.Command{Path: "/usr/sbin/" + program, Args: args, Env: r.env}.Output(ctx)
		return err
	}
	if err := run("kdb5_util", "create", "-s", "-r", r.Name, "-P", "master"); err != nil {
		return err
	}
	p, err := child.Start(child.Command{
		Path: "/usr/sbin/krb5kdc", Args: []string{"-n", "-r", r.Name, "-P", filepath.Join(r.dir, "pid")}, Env: append(more, r.env...),
		Log: filepath.Join(r.dir, "out"), Stop: syscall.SIGTERM, Kill: syscall.SIGKILL,
	})
	if err != nil {
		return err
	}
	t.Cleanup(func() { p.Stop(5 * time.Second) })
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", r.KDC)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.Done():
			return fmt.Errorf("krb5kdc has ended: %v", p.Err())
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// admin runs one command of kadmin(1).
func (r *Realm) admin(t testing.TB, command string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := (child.Command{Path: "/usr/sbin/kadmin.local", Args: []string{"-r", r.Name, "-q", command}, Env: r.env}).Output(ctx); err != nil {
		t.Fatal(err)
	}
}

// AddPerson adds a principal whose password is its name.
func (r *Realm) AddPerson(t testing.TB, name string) {
	t.Helper()
	r.admin(t, "addprinc -pw "+name+" "+name)
}

// KeytabOf is Keytab with keys of one encryption type alone.
func (r *Realm) KeytabOf(t testing.TB, etype string, services ...string) []byte {
	t.Helper()
	return r.keytab(t, "-e "+etype+":normal ", services)
}

// Keytab adds services, or gives those that are there new keys, and returns a keytab
// with the keys that they have now.
func (r *Realm) Keytab(t testing.TB, services ...string) []byte {
	t.Helper()
	return r.keytab(t, "", services)
}

func (r *Realm) keytab(t testing.TB, options string, services []string) []byte {
	t.Helper()
	file := filepath.Join(r.dir, "keytab")
	_ = os.Remove(file)
	for _, s := range services {
		r.admin(t, "addprinc -randkey "+s) // one that is there is no error to kadmin
		r.admin(t, "ktadd -k "+file+" "+options+s)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Trust lets people of other use the services of r.
func (r *Realm) Trust(t testing.TB, other *Realm) {
	t.Helper()
	for _, one := range []*Realm{r, other} {
		one.admin(t, "addprinc -pw trust krbtgt/"+r.Name+"@"+other.Name)
	}
}

// KerberosLogin gets a ticket-granting ticket for a person as kinit(1) does, and
// returns the environment with which programs use it. kdcs are the realms that they
// know, name -> host:port.
func KerberosLogin(t testing.TB, kdcs map[string]string, principal, password string) (env []string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "krb5.conf")
	if err := os.WriteFile(config, []byte(kerberosConfig(kdcs)), 0o600); err != nil {
		t.Fatal(err)
	}
	env = []string{"KRB5_CONFIG=" + config, "KRB5CCNAME=FILE:" + filepath.Join(dir, "ccache")}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// kinit reads the password from its input, where there is no terminal.
	script := `printf '%s\n' "$1" | kinit "$2"`
	if _, err := (child.Command{Path: "/bin/sh", Args: []string{"-c", script, "sh", password, principal}, Env: env}).Output(ctx); err != nil {
		t.Fatalf("kinit: %v", err)
	}
	return env
}
