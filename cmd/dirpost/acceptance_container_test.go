//go:build acceptance

package main

import (
	"crypto/tls"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
)

// podman is a container engine with a store of the test's own.
type podman struct {
	t    *testing.T
	args []string
}

// newPodman prepares it. There is no registry to ask: images are made here.
func newPodman(t *testing.T) *podman {
	t.Helper()
	dir := shortDir(t)
	p := &podman{t, []string{"--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "runc"}}
	t.Cleanup(func() {
		_ = exec.Command("podman", append(slices.Clone(p.args), "rm", "--all", "--force", "--time", "0")...).Run()
	})
	return p
}

// do runs a command of podman that must succeed, and returns what it prints.
func (p *podman) do(args ...string) string {
	p.t.Helper()
	return strings.TrimSpace(output(p.t, "podman", append(slices.Clone(p.args), args...)...))
}

// build makes the image of the Dockerfile, from this machine's Debian and Go, and the
// modules that it has.
func (p *podman) build() string {
	p.t.Helper()
	root := debian(p.t, "ca-certificates")
	output(p.t, "mkdir", "-p", root+"/usr/local")
	output(p.t, "cp", "-a", strings.TrimSpace(output(p.t, "go", "env", "GOROOT")), root+"/usr/local/go")
	output(p.t, "tar", "-C", root, "-cf", root+".tar", ".")
	p.do("import", "--change", "ENV PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin", "--change", "ENV GOTOOLCHAIN=local", root+".tar", "localhost/go:test")
	modules := strings.TrimSpace(output(p.t, "go", "env", "GOMODCACHE")) + "/cache/download"
	p.do("build", "--isolation", "chroot", "--pull=never", "--layers=false", "--format", "docker", "--volume", modules+":/modules:ro",
		"--build-arg", "GO_IMAGE=localhost/go:test", "--build-arg", "GOPROXY=file:///modules", "--build-arg", "VERSION=7.7",
		"--ignorefile", "../../deploy/container/Dockerfile.dockerignore", "--file", "../../deploy/container/Dockerfile", "--tag", "localhost/dirpost:test", "../..")
	return "localhost/dirpost:test"
}

// TestAcceptanceContainer: the image is built by its Dockerfile, and its containers are
// run as the compose file says: one that migrates, one of port 25, one with the rest.
// Mail that comes to one is read at the other.
func TestAcceptanceContainer(t *testing.T) {
	p := newPodman(t)
	image := p.build()
	if got := p.do("run", "--rm", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", "--network", "none", image, "--version"); got != "dirpost version 7.7" {
		t.Errorf("the program says %q", got)
	}
	h := newComposeHost(t)
	h.config = strings.Replace(h.config, `local = ["example.com"]`, `local = ["corp.example"]`, 1) // that of the directory
	addr := map[string]string{}
	for port, name := range map[string]string{"[::]:25": "smtp", "[::]:993": "imaps", "127.0.0.1:8080": "status", "[::]:465": "submissions", "[::]:587": "submission", "[::]:995": "pop3s", "[::]:443": "https", "[::]:80": "http"} {
		// The network is the host's, where an ordinary user gets no low ports.
		addr[name] = freeAddress(t)
		h.config = strings.Replace(h.config, `"`+port+`"`, `"`+addr[name]+`"`, 1)
	}
	config := mustWrite(t, filepath.Join(h.dir, "dirpost.toml"), h.config, 0o644)
	// Each container has health checks of its own: not two on one address.
	configs := map[string]string{"mx": config, "node": mustWrite(t, filepath.Join(h.dir, "node.toml"), strings.Replace(h.config, addr["status"], freeAddress(t), 1), 0o644), "migrate": config}
	output(t, "chgrp", "-R", "65532", h.secrets, h.tls)
	output(t, "chmod", "-R", "g+rX", h.secrets, h.tls)
	start := func(service string, extra ...string) {
		t.Helper()
		s := h.Services[service]
		args := append([]string{"run", "--name", service, "--pull", "never", "--network", "host", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", "--user", s.User, "--log-driver", "k8s-file"}, extra...)
		if s.ReadOnly {
			args = append(args, "--read-only", "--read-only-tmpfs=false")
		}
		for _, c := range s.CapDrop {
			args = append(args, "--cap-drop", c)
		}
		for _, o := range s.SecurityOpt {
			args = append(args, "--security-opt", strings.TrimSuffix(o, ":true"))
		}
		for _, dir := range s.Tmpfs {
			path, _, _ := strings.Cut(dir, ":")
			args = append(args, "--mount", "type=tmpfs,destination="+path+",U=true")
		}
		for _, x := range s.Secrets {
			args = append(args, "--volume", filepath.Join(h.secrets, x.Source)+":/run/secrets/"+x.Source+":ro")
		}
		args = append(args, "--volume", filepath.Join(h.secrets, "ca.pem")+":/run/secrets/ca.pem:ro", "--volume", h.socket+":/run/postgresql",
			"--volume", h.tls+":/etc/dirpost/tls:ro", "--volume", configs[service]+":/etc/dirpost/dirpost.toml:ro", image)
		p.do(append(args, s.Command...)...)
	}
	s := &system{t: t}
	start("migrate", "--rm")
	start("node", "--detach")
	start("mx", "--detach")
	var said string
	healthy := func(service string) bool {
		out, err := exec.Command("podman", append(slices.Clone(p.args), "exec", service, "/usr/bin/dirpost", "health")...).CombinedOutput()
		said = string(out)
		return err == nil
	}
	t.Cleanup(func() { t.Logf("the last word on health: %s", said) })
	s.eventually("the containers say that they are well", func() bool { return healthy("mx") && healthy("node") })
	if out, err := exec.Command("podman", append(slices.Clone(p.args), "exec", "mx", "/usr/bin/dirpost", "config", "check")...).CombinedOutput(); err == nil {
		t.Errorf("the container of port 25 has all secrets: %s", out)
	}
	p.do("exec", "node", "/usr/bin/dirpost", "config", "check")
	t.Log(p.do("exec", "node", "/usr/bin/dirpost", "directory", "check", "--accept"))
	s.addr = addr
	s.eventually("mail is taken", func() bool {
		return s.deliver("ann@example.net", []string{"alice@corp.example"}, "Subject: through containers\r\n\r\nx\r\n") == nil
	})
	c, err := imapclient.DialTLS(addr["imaps"], &imapclient.Options{TLSConfig: &tls.Config{RootCAs: h.cert.Pool, ServerName: "mail.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login("alice", h.slapd.UserPassword).Wait(); err != nil {
		t.Fatal(err)
	}
	if got := s.read(c, "INBOX"); len(got) != 1 || !strings.Contains(got[0], "Subject: through containers\r\n") {
		t.Errorf("alice has %q", got)
	}
	for _, service := range []string{"mx", "node"} {
		p.do("stop", "--time", "60", service)
		if code, err := strconv.Atoi(p.do("inspect", "--format", "{{.State.ExitCode}}", service)); err != nil || code != 0 {
			t.Errorf("%s ends with %d, %v\n%s", service, code, err, p.do("logs", service))
		}
	}
}
