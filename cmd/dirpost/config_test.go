package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"dirpost/internal/testenv"
)

// TestExample: what `config example` prints is a configuration.
func TestExample(t *testing.T) {
	t.Parallel()
	if _, err := parseConfig([]byte(exampleTOML)); err != nil {
		t.Errorf("the example: %v", err)
	}
	// With each commented key in use it is still one, and each key exists.
	all := regexp.MustCompile(`(?m)^#([a-z_]+ = |\[\[)`).ReplaceAllString(exampleTOML, "$1")
	if all == exampleTOML {
		t.Fatal("no key is commented out")
	}
	all = regexp.MustCompile(`(?m)^urls = .*\n`).ReplaceAllString(all, "")                                // discover stands for it
	all += "\n[directory.branch]\nurls = [\"ldaps://branch.example\"]\nbase = \"dc=branch,dc=example\"\n" // which directories names
	if _, err := parseConfig([]byte(all)); err != nil {
		t.Errorf("the example with every key in use: %v", err)
	}
}

// TestExampleIsComplete: every key that the program reads stands in the example,
// with a comment above it.
func TestExampleIsComplete(t *testing.T) {
	t.Parallel()
	lines := strings.Split(exampleTOML, "\n")
	for _, key := range keys(reflect.TypeFor[File](), "") {
		section, name := "", key
		if i := strings.LastIndex(key, "."); i >= 0 {
			section, name = key[:i], key[i+1:]
		}
		at, in := -1, ""
		for i, l := range lines {
			if strings.HasPrefix(strings.TrimPrefix(l, "#"), "[") {
				in = strings.ReplaceAll(strings.Trim(l, "#[]"), "directory.corp", "directory.*")
			}
			if in == section && strings.HasPrefix(strings.TrimPrefix(l, "#"), name+" = ") {
				at = i
				break
			}
		}
		if at < 0 {
			t.Errorf("the example does not show %s", key)
		}
	}
}

// keys lists the keys of a section and those below it.
func keys(typ reflect.Type, prefix string) []string {
	var all []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		if !f.IsExported() {
			continue // no key
		}
		name, ft := prefix+f.Tag.Get("toml"), f.Type
		switch {
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			all = append(all, keys(ft.Elem(), name+".")...)
		case ft.Kind() == reflect.Map && ft.Elem().Kind() == reflect.Struct:
			all = append(all, keys(ft.Elem(), name+".*.")...)
		case ft.Kind() == reflect.Struct && ft != reflect.TypeFor[Secret]():
			all = append(all, keys(ft, name+".")...)
		default:
			all = append(all, name)
		}
	}
	return all
}

// TestConfigErrors: each mistake is one line that says where and what to do.
func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown key":      {"[mta]", "[mta]\nmax_sise = \"1MiB\"", `there is no key "mta.max_sise"`},
		"bad size":         {"#max_size = \"75MiB\"", "max_size = \"75 megabytes\"", `is no size: write as`},
		"bad time":         {"#lifetime = \"5d\"", "lifetime = \"soon\"", `is no time span: write as`},
		"secret in file":   {"bind_password = \"file:/etc/dirpost/ldap.password\"", "bind_password = \"hunter2\"", "a secret never stands in the configuration"},
		"no host name":     {"name = \"mail.example.com\"", "name = \"mail\"", "server.name: \"mail\" is no host name with a domain"},
		"unknown role":     {"#roles = [\"mx\",", "roles = [\"mxx\",", `"mxx" is no role; the roles are mx, msa`},
		"no domain":        {"local = [\"example.com\"]", "local = []", "domains.local: there must be a domain"},
		"order of nobody":  {"#directories = {", "directories = {", `there is no section [directory.branch]`},
		"bad protocol":     {"protocol = \"pop3\"", "protocol = \"pop\"", `protocol: "pop" is none of`},
		"bad server":       {"\"ldaps://ldap.example.com\"", "\"ldap.example.com\"", "directory.corp: "},
		"kerberos in TLS":  {"#bind = \"simple\"", "bind = \"gssapi\"", `urls: "ldaps://ldap.example.com": with bind = "gssapi" want ldap://`},
		"two accounts":     {"#bind = \"simple\"", "bind = \"gssapi\"", `bind_dn and bind_password: not with bind = "gssapi"`},
		"syntax":           {"[log]", "[log", "line "},
		"an address twice": {"address = \"[::]:465\"", "address = \"[::]:587\"", "there is a listener on it already"},
		"starttls in http": {"protocol = \"http\"\ntls = \"implicit\"", "protocol = \"http\"\ntls = \"starttls\"", "there is no STARTTLS in HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(exampleTOML, c.old) {
				t.Fatalf("the example has no %q", c.old)
			}
			_, err := parseConfig([]byte(strings.Replace(exampleTOML, c.old, c.new, 1)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error repeats the secret: %v", err)
			}
		})
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{"0B": 0, "16KiB": 16 << 10, "75MiB": 75 << 20, "2 GiB": 2 << 30, "": -1, "5": -1, "-1B": -1, "9999999999TiB": -1, "5MB": -1} {
		var z Size
		if err := z.UnmarshalText([]byte(in)); (err != nil) != (want < 0) || err == nil && int64(z) != want {
			t.Errorf("size %q = %d, %v; want %d", in, z, err, want)
		}
	}
	for in, want := range map[string]float64{"30s": 30, "4d": 4 * 86400, "1h30m": 5400, "": -1, "5": -1, "-5s": -1, "-1d": -1} {
		var d Duration
		if err := d.UnmarshalText([]byte(in)); (err != nil) != (want < 0) || err == nil && float64(d)/1e9 != want {
			t.Errorf("duration %q = %d, %v; want %v s", in, d, err, want)
		}
	}
}

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	if err := os.WriteFile(path, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for _, s := range []Secret{{ref: "file:" + path}, {ref: "credential:secret"}} {
		if v, err := s.Resolve(); v != "s3cret" || err != nil {
			t.Errorf("%s: %q, %v", s, v, err)
		}
	}
	for _, s := range []Secret{{ref: "file:/nowhere"}, {ref: "credential:nothing"}, {ref: "credential:../secret"}} {
		if v, err := s.Resolve(); err == nil {
			t.Errorf("%s gives %q", s, v)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (Secret{ref: "file:" + path}).Resolve(); err == nil {
		t.Error("a secret that everybody may read is taken")
	}
}

// TestConfigCheck runs the command on a good and on a missing file.
func TestConfigCheck(t *testing.T) {
	t.Parallel()
	cert := testenv.Certificate(t)
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("/etc/dirpost/tls/fullchain.pem", cert.CertFile, "/etc/dirpost/tls/key.pem", cert.KeyFile, "/etc/dirpost/ldap.password", secret).Replace(exampleTOML)
	path := filepath.Join(t.TempDir(), "dirpost.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		code int
		want string
	}{{path, 0, "is good"}, {path + ".not", 1, "dirpost config example >"}} {
		var out strings.Builder
		code := run(t.Context(), []string{"dirpost", "config", "check", "--offline", "--config", c.path}, streams{nil, &out, &out})
		if code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("config check %s: exit %d, %s", c.path, code, out.String())
		}
	}
}
