package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"dirpost/internal/testenv"
)

// deployCheck is the program that reads recipes as those will who follow them:
// tools/deploycheck, built when it has changed.
var deployCheck = sync.OnceValues(func() (string, error) {
	path, err := filepath.Abs("../../.cache/deploycheck")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if out, err := exec.Command("go", "build", "-C", "../../tools", "-o", path, "./deploycheck").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// checkRecipe calls deploycheck and returns its complaints; without any, into has what
// the recipe comes to.
func checkRecipe(t *testing.T, into any, args ...string) string {
	t.Helper()
	program, err := deployCheck()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil && complaints.Len() == 0 {
		t.Fatal(err)
	}
	if err == nil {
		if err := json.Unmarshal(out, into); err != nil {
			t.Fatal(err)
		}
	}
	return complaints.String()
}

// portsOf are the ports that a node with some roles opens, of those that others may
// reach.
func (f *File) portsOf(t *testing.T, roles []string) []int {
	t.Helper()
	var ports []int
	for _, l := range f.Listener {
		role := protocols[l.Protocol]
		if role == "" || len(roles) > 0 && !slices.Contains(roles, role) {
			continue
		}
		_, port, err := net.SplitHostPort(l.Address)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, n)
	}
	slices.Sort(ports)
	return ports
}

// placed is a configuration as a container has it, with what the test has instead of
// what stands there, in pairs: the first of two that begin at one place counts.
func placed(t *testing.T, text string, pairs ...string) (path string, f *File) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the configuration has no %s", pairs[i])
		}
	}
	path = mustWrite(t, filepath.Join(t.TempDir(), "dirpost.toml"), strings.NewReplacer(pairs...).Replace(text), 0o600)
	f, err := readConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, f
}

// mountedCertificate puts a certificate where a Secret of Kubernetes or the example of
// the compose file has it.
func mountedCertificate(t *testing.T) (dir string, cert testenv.Cert) {
	t.Helper()
	dir, cert = t.TempDir(), testenv.Certificate(t, "mail.example.com")
	for name, from := range map[string]string{"tls.crt": cert.CertFile, "tls.key": cert.KeyFile} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, filepath.Join(dir, name), string(b), 0o600)
	}
	return dir, cert
}

// configCheck calls `dirpost config check`, which must be content.
func configCheck(t *testing.T, path string, args ...string) {
	t.Helper()
	var out lockedBuffer
	if code := run(context.Background(), append([]string{"dirpost", "config", "check", "--config", path}, args...), streams{nil, &out, &out}); code != 0 {
		t.Errorf("config check: %s", out.String())
	}
}

// TestImage: the recipe of the image is understood by BuildKit, which finds no fault
// with it, and makes an image that runs without root and says how it does.
func TestImage(t *testing.T) {
	t.Parallel()
	var image struct {
		User         string
		Entrypoint   []string
		Cmd          []string
		ExposedPorts map[string]struct{}
		Healthcheck  struct{ Test []string }
	}
	if complaints := checkRecipe(t, &image, "image", "../../deploy/container/Dockerfile"); complaints != "" {
		t.Fatal(complaints)
	}
	if image.User != "65532:65532" || !slices.Equal(image.Entrypoint, []string{"/usr/bin/dirpost"}) || !slices.Equal(image.Cmd, []string{"serve"}) ||
		!slices.Equal(image.Healthcheck.Test, []string{"CMD", "/usr/bin/dirpost", "health"}) {
		t.Errorf("the image: %+v", image)
	}
	example, err := parseConfig([]byte(exampleTOML))
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range example.portsOf(t, nil) {
		if _, ok := image.ExposedPorts[fmt.Sprintf("%d/tcp", port)]; !ok {
			t.Errorf("port %d is not exposed", port)
		}
	}
	// What the program is made of reaches the build.
	b, err := os.ReadFile("../../deploy/container/Dockerfile.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{if .Module}}{{if .Module.Main}}{{.ImportPath}}{{end}}{{end}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(out)) {
		if top := strings.Split(p, "/")[1]; !strings.Contains(string(b), "\n!"+top+"\n") {
			t.Errorf("Dockerfile.dockerignore leaves out %s", top)
		}
	}
	if complaints := checkRecipe(t, &image, "image", mustWrite(t, filepath.Join(t.TempDir(), "Dockerfile"), "FROM scratch as x\nMAINTAINER me\nCOPY --from=nobody /a /b\nENV PASSWORD=x\n", 0o600)); !strings.Contains(complaints, "FromAsCasing") || !strings.Contains(complaints, "SecretsUsedInArgOrEnv") {
		t.Errorf("a bad Dockerfile: %s", complaints)
	}
}
