package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/child"
	"dirpost/internal/testenv"
)

// composed is what is looked at of a compose file.
type composed struct {
	Services map[string]struct {
		User        string
		ReadOnly    bool     `json:"read_only"`
		CapDrop     []string `json:"cap_drop"`
		SecurityOpt []string `json:"security_opt"`
		Command     []string
		Environment map[string]*string
		NetworkMode string `json:"network_mode"`
		HealthCheck *struct{ Test []string }
		DependsOn   map[string]struct{ Condition string } `json:"depends_on"`
		Ports       []struct {
			Target    int
			Published json.Number
		}
		Secrets []struct{ Source string }
		Sysctls map[string]string
		Tmpfs   []string
		Volumes []struct{ Source, Target string }
	}
	Secrets map[string]struct{ File string }
	Configs map[string]struct{ File string }
}

const composeFile = "../../deploy/container/compose.yaml"

// TestCompose: the compose file is read as Docker reads it; its services have no power
// and no secret that they do not need, and come in order.
func TestCompose(t *testing.T) {
	t.Parallel()
	var c composed
	if complaints := checkRecipe(t, &c, "compose", composeFile); complaints != "" {
		t.Fatal(complaints)
	}
	text, err := os.ReadFile(c.Configs["dirpost"].File)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	secretsOf := map[string][]string{
		"postgres": {"database_admin", "database_owner", "database_serve"},
		"migrate":  {"database_owner"},
		"mx":       {"database_serve"},
		"node":     {"database_serve", "directory", "sealing_key"},
	}
	for name, s := range c.Services {
		if s.User == "" || strings.HasPrefix(s.User, "0") || !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s has power: %+v", name, s)
		}
		var secrets []string
		for _, x := range s.Secrets {
			secrets = append(secrets, x.Source)
		}
		if slices.Sort(secrets); !slices.Equal(secrets, secretsOf[name]) {
			t.Errorf("%s has the secrets %v, want %v", name, secrets, secretsOf[name])
		}
		if name != "mx" && name != "node" {
			continue
		}
		if s.DependsOn["migrate"].Condition != "service_completed_successfully" || s.DependsOn["postgres"].Condition != "service_healthy" {
			t.Errorf("%s is started after %+v", name, s.DependsOn)
		}
		if s.HealthCheck == nil || !slices.Equal(s.HealthCheck.Test, []string{"CMD", "/usr/bin/dirpost", "health"}) {
			t.Errorf("%s: health check %+v", name, s.HealthCheck)
		}
		if len(s.Command) != 3 || s.Command[0] != "serve" || s.Command[1] != "--roles" {
			t.Fatalf("%s runs %q", name, s.Command)
		}
		roles, err := f.roles(strings.Split(s.Command[2], ","))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var ports []int
		for _, p := range s.Ports {
			ports = append(ports, p.Target)
		}
		if slices.Sort(ports); !slices.Equal(ports, f.portsOf(t, roles)) {
			t.Errorf("%s has the ports %v, and listens on %v", name, ports, f.portsOf(t, roles))
		}
		if s.Sysctls["net.ipv4.ip_unprivileged_port_start"] != "0" {
			t.Errorf("%s cannot open its ports", name)
		}
	}
	if pg := c.Services["postgres"]; pg.NetworkMode != "none" || !strings.Contains(*pg.Environment["POSTGRES_INITDB_ARGS"], "--data-checksums") {
		t.Errorf("postgres: %+v", pg)
	}
	if url, err := f.healthURL(); err != nil || !strings.Contains(url, ":8080/") {
		t.Errorf("the health check asks %s, %v", url, err)
	}
}

// A composeHost is a host on which the compose file could be started: its database is
// made as the file says, its secrets are there, and a directory.
type composeHost struct {
	composed
	dir     string
	secrets string // directory
	socket  string // directory of the database's socket
	tls     string // directory
	cert    testenv.Cert
	slapd   *testenv.SlapdServer
	// config is dirpost.toml, which is changed for that directory, and has its
	// authority among the secrets.
	config string
}

// newComposeHost makes one.
func newComposeHost(t *testing.T) *composeHost {
	t.Helper()
	h := &composeHost{dir: shortDir(t), slapd: testenv.Slapd(t)}
	h.tls, h.cert = mountedCertificate(t)
	if complaints := checkRecipe(t, &h.composed, "compose", composeFile); complaints != "" {
		t.Fatal(complaints)
	}
	if err := os.Chmod(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.secrets, h.socket = filepath.Join(h.dir, "secrets"), filepath.Join(h.dir, "run")
	if err := os.Mkdir(h.secrets, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"database_admin": "Admin-1", "database_owner": "*:*:*:dirpost:Owner-1", "database_serve": "*:*:*:dirpost_serve:Serve-1",
		"sealing_key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "directory": h.slapd.ServicePassword, "ca.pem": mustRead(t, h.slapd.CAFile),
	} {
		mustWrite(t, filepath.Join(h.secrets, name), text+"\n", 0o640)
	}
	h.startDatabase(t)
	h.config = strings.NewReplacer(`urls = ["ldaps://ldap.example.com"]`, `urls = ["`+h.slapd.TLSURL+"\"]\nca = \"/run/secrets/ca.pem\"",
		"cn=dirpost,ou=services,dc=example,dc=com", h.slapd.ServiceDN, "dc=example,dc=com", h.slapd.Base).Replace(mustRead(t, h.Configs["dirpost"].File))
	return h
}

// startDatabase makes a cluster as the image of PostgreSQL does with the environment
// of the compose file, and gives it the roles of init-postgres.sh.
func (h *composeHost) startDatabase(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	programs, err := child.FindPostgres(0)
	if err != nil {
		t.Fatal(err)
	}
	user, err := child.Unprivileged("postgres")
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(h.dir, "data")
	for _, d := range []string{data, h.socket} {
		if err := child.MakeDir(d, user); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(h.socket, 0o755); err != nil { // who is whom, passwords say
		t.Fatal(err)
	}
	password := mustWrite(t, filepath.Join(h.dir, "password"), "Admin-1\n", 0o644) // of the test alone
	args := append(strings.Fields(*h.Services["postgres"].Environment["POSTGRES_INITDB_ARGS"]), "--username=postgres", "--pwfile="+password, "--no-sync", "--pgdata="+data)
	if _, err := (child.Command{Path: programs.Bin + "/initdb", User: user, Args: args}).Output(ctx); err != nil {
		t.Fatal(err)
	}
	pg, err := child.StartPostgres(ctx, child.PostgresConfig{Programs: programs, User: user, Dir: data, Socket: h.socket, Log: filepath.Join(h.dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Stop(10 * time.Second) })
	script := exec.CommandContext(ctx, "../../deploy/container/init-postgres.sh")
	script.Env = append(os.Environ(), "SECRETS="+h.secrets, "PGHOST="+h.socket, "PGPASSWORD=Admin-1", "PATH="+programs.Bin+":"+os.Getenv("PATH"))
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("init-postgres.sh: %v: %s", err, out)
	}
}

// TestComposeDatabase: a cluster made as the compose file says takes the roles of
// init-postgres.sh; with them the example's configuration migrates, and is found to be
// good by the database and a directory.
func TestComposeDatabase(t *testing.T) {
	t.Parallel()
	h := newComposeHost(t)
	path, _ := placed(t, h.config, "/run/secrets", h.secrets, "/run/postgresql", h.socket, "/etc/dirpost/tls", h.tls)
	var out lockedBuffer
	if code := run(t.Context(), []string{"dirpost", "migrate", "--config", path}, streams{nil, &out, &out}); code != 0 {
		t.Fatalf("migrate: %s", out.String())
	}
	configCheck(t, path)
}

// TestComposeSecrets: what secrets.sh makes is what the database and the nodes read,
// and it makes nothing twice.
func TestComposeSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := mustWrite(t, filepath.Join(dir, "secrets.sh"), mustRead(t, "../../deploy/container/secrets.sh"), 0o755)
	if err := os.Mkdir(filepath.Join(dir, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(dir, "secrets/directory"), "from the administrator\n", 0o600)
	make := func() map[string]string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", script)
		cmd.Env = append(os.Environ(), "GROUP="+strconv.Itoa(os.Getgid())) // only root has another
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		all := map[string]string{}
		files, err := filepath.Glob(filepath.Join(dir, "secrets/*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			st, err := os.Stat(f)
			if err != nil || st.Mode().Perm() != 0o440 || int(st.Sys().(*syscall.Stat_t).Gid) != os.Getgid() {
				t.Errorf("%s: %v, %v", f, st.Mode(), err)
			}
			all[filepath.Base(f)] = mustRead(t, f)
		}
		return all
	}
	first := make()
	var c composed
	if complaints := checkRecipe(t, &c, "compose", composeFile); complaints != "" {
		t.Fatal(complaints)
	}
	for name := range c.Secrets {
		if first[name] == "" {
			t.Errorf("secrets.sh does not make %s", name)
		}
	}
	if key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(first["sealing_key"])); err != nil || len(key) != 32 {
		t.Errorf("the sealing key has %d octets, %v", len(key), err)
	}
	if again := make(); !maps.Equal(first, again) {
		t.Error("secrets.sh makes what there is anew")
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
