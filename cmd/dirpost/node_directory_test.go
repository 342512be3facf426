package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dirpost/internal/testenv"
)

// TestKerberosDirectory: a section of the configuration with a keytab reads a
// real Active Directory, and a node that only has passwords judged by LDAP needs no
// keytab.
func TestKerberosDirectory(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// A keytab is no text: a line end at its end is part of it.
	keytab := write("keytab", slices.Concat(s.Keytab, []byte{0, 0, 0, 0, '\n'}))
	section := fmt.Sprintf("\n[directory.ad]\npreset = \"ad\"\nurls = [%q]\nserver_name = %q\nca = %q\nbase = %q\n"+
		"bind = \"gssapi\"\npasswords = \"ldap\"\nprincipal = %q\nrealm = %q\nkdc = [%q]\nkeytab = \"file:%%s\"\n\n[auth]\n",
		s.URL, s.Host, write("ca", []byte(s.CA)), s.Base, s.Service, s.Realm, s.Address+":88")
	parse := func(keytab string) *File {
		t.Helper()
		f, err := parseConfig([]byte(strings.Replace(exampleTOML, "\n[auth]\n", fmt.Sprintf(section, keytab), 1)))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}

	d := parse(keytab)
	if err := d.Directory["ad"].checkKeytab(); err != nil {
		t.Error(err)
	}
	reader, err := d.client("ad", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	if err := reader.Check(t.Context()); err != nil {
		t.Errorf("read: %v", err)
	}
	judge, err := parse(filepath.Join(dir, "elsewhere")).client("ad", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(judge.Close)
	if err := judge.CheckLogin(t.Context()); err != nil {
		t.Errorf("log in without a keytab: %v", err)
	}

	if err := parse(write("text", []byte("secret"))).Directory["ad"].checkKeytab(); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a text as keytab: %v", err)
	}
	if _, err := parse(filepath.Join(dir, "nothing")).client("ad", true, nil); err == nil || !strings.Contains(err.Error(), "directory.ad.keytab: ") {
		t.Errorf("a missing keytab: %v", err)
	}
}
