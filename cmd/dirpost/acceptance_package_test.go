//go:build acceptance

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The packages of `make deb` on a Debian that has nothing else: installed, upgraded,
// removed, purged. No service manager runs there; what it will do with the units is
// asked of its own checks.
func TestAcceptancePackage(t *testing.T) {
	root := debian(t, "systemd", "procps")
	build := func(version string) {
		t.Helper()
		output(t, "make", "-C", "../..", "deb", "VERSION="+version)
		for _, name := range []string{"dirpost", "dirpost-mta"} {
			packages, err := filepath.Glob("../../dist/" + name + "_" + version + "_*.deb")
			if err != nil || len(packages) != 1 {
				t.Fatalf("packages of %s %s: %v, %v", name, version, packages, err)
			}
			output(t, "cp", packages[0], root+"/"+name+".deb")
		}
	}
	inside := func(script string) string {
		t.Helper()
		return output(t, "chroot", root, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "sh", "-euc", script)
	}
	expect := func(script, want string) {
		t.Helper()
		if got := strings.TrimSpace(inside(script)); got != want {
			t.Errorf("%s\nprints %q, want %q", script, got, want)
		}
	}

	build("1.0")
	inside("dpkg -i /dirpost.deb")
	expect("getent passwd dirpost | cut -d: -f6,7", "/nonexistent:/usr/sbin/nologin")
	expect("stat -c '%a %U %G' /etc/dirpost /etc/dirpost/sealing.key", "750 root dirpost\n600 dirpost dirpost")
	expect("base64 -d /etc/dirpost/sealing.key | wc -c", "32")
	expect("systemctl is-enabled dirpost.socket dirpost.service", "enabled\nenabled")
	inside("systemd-analyze verify --man=no dirpost.socket dirpost.service 2>&1 | { ! grep dirpost; }")
	// 0 is no exposure at all, 10 is a service without any protection.
	inside("systemd-analyze security --offline=true --threshold=20 --no-pager dirpost.service >/dev/null")
	expect("dirpost --version", "dirpost version 1.0")
	expect("dirpost setup 2>&1 </dev/null | sed -n 's/^dirpost: //p'", `domains: missing: which domains is mail for? As in domains = ["example.com"], or --domains`)
	expect("dirpost setup --answers-example >/tmp/answers; dirpost setup --answers /tmp/answers 2>&1 | sed -n 's/^dirpost: \\(directory[^:]*\\).*/\\1/p'", "directory.bind_password")
	expect("ls /etc/dirpost", "sealing.key")
	// What the example lacks is the certificate and the password of the directory.
	expect("dirpost config example >/etc/dirpost/dirpost.toml; dirpost config check --offline 2>&1 | sed 's/.*: stat //; s/.*: open //'",
		"/etc/dirpost/ldap.password: no such file or directory\n/etc/dirpost/tls/fullchain.pem: no such file or directory")
	inside("test -s /usr/share/man/man1/dirpost-serve.1.gz && bash -n /usr/share/bash-completion/completions/dirpost")
	// What the socket unit opens is what the example serves.
	expect("sed -n 's/^ListenStream=//p' /lib/systemd/system/dirpost.socket | sort", strings.Join([]string{"25", "443", "465", "587", "80", "993", "995"}, "\n"))
	expect(`sed -n 's/^address = "\[::\]:\([0-9]*\)"/\1/p' /etc/dirpost/dirpost.toml | sort`, strings.Join([]string{"25", "443", "465", "587", "80", "993", "995"}, "\n"))
	inside("dpkg -i /dirpost-mta.deb")
	expect("printf 'Subject: x\\n\\n' | sendmail root 2>/dev/null || echo $?", "75") // EX_TEMPFAIL: nobody serves

	key := inside("cat /etc/dirpost/sealing.key")
	build("1.1")
	inside("dpkg -i /dirpost.deb /dirpost-mta.deb")
	expect("dpkg-query -W -f '${Version} ${Status}' dirpost", "1.1 install ok installed")
	expect("cat /etc/dirpost/sealing.key", strings.TrimSpace(key))
	inside("test -s /etc/dirpost/dirpost.toml")

	inside("dpkg -r dirpost-mta dirpost && ! test -e /usr/bin/dirpost && test -s /etc/dirpost/dirpost.toml")
	inside("dpkg -P dirpost-mta dirpost")
	expect("cat /etc/dirpost/sealing.key", strings.TrimSpace(key))
}

// debian makes a root of this machine's Debian, with some packages in it.
func debian(t *testing.T, packages ...string) string {
	t.Helper()
	root := t.TempDir()
	suite := strings.TrimSpace(output(t, "sh", "-c", `. /etc/os-release; echo "$VERSION_CODENAME"`))
	mirror, _, _ := strings.Cut(output(t, "apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"), "\n")
	output(t, "debootstrap", "--variant=minbase", "--include="+strings.Join(packages, ","), suite, root, mirror)
	return root
}

// output runs a program that must succeed, and returns what it prints.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, errs.String())
	}
	return string(out)
}
