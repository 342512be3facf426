//go:build acceptance

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/testenv"
)

// A peer is an MTA of others, started for one test on the loopback network. It
// keeps what is addressed to its domain, and hands everything else to Dirpost:
// mail for corp.example to port 25, the rest to port 587 as alice.
type peer struct {
	name   string // also the domain: <name>.example
	addr   string
	config string
	boxes  string // files matching it hold a message each
	log    string
}

// domain is where the peer takes mail for.
func (p *peer) domain() string { return p.name + ".example" }

// received returns the messages that came, with CRLF at the ends of lines.
func (p *peer) received(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(p.boxes)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it was being moved
		}
		all = append(all, strings.ReplaceAll(string(b), "\n", "\r\n"))
	}
	return all
}

// awaitText waits for a message that contains text.
func (p *peer) awaitText(t *testing.T, text string) string {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		for _, m := range p.received(t) {
			if strings.Contains(m, text) {
				return m
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not get %q; its log:\n%s", p.name, text, p.lastLog())
		}
		time.Sleep(50 * time.Millisecond) // a program of its own can only be asked
	}
}

// lastLog is the end of the peer's log.
func (p *peer) lastLog() string {
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-4000):])
}

// peers are the programs of others that a message is exchanged with. The
// addresses of Dirpost are those of s.
var peers = map[string]func(t *testing.T, dir string, s *system) *peer{"postfix": postfix, "exim": exim}

// mustMkdir makes a directory, for the user uid unless it is -1.
func mustMkdir(t *testing.T, path string, uid int) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if uid >= 0 {
		if err := os.Chown(path, uid, -1); err != nil {
			t.Fatalf("%v (the mail servers of others start as root only: run make acceptance as root)", err)
		}
	}
	return path
}

// nobody is the user that the peers write mailboxes as.
const nobody = 65534

// launch starts a program that stays in the foreground and waits until it
// listens at addr. It is killed with all its children when the test ends.
func launch(t *testing.T, addr, log string, cmd *exec.Cmd) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	deadline := time.Now().Add(time.Minute)
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ended:
			b, _ := os.ReadFile(log)
			t.Fatalf("%s ended: %s\n%s", cmd.Path, out.String(), b)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen", cmd.Path)
		}
	}
}

// postfix starts a Postfix with a configuration of its own.
func postfix(t *testing.T, dir string, s *system) *peer {
	t.Helper()
	program := testenv.Need(t, "postfix")
	p := &peer{name: "postfix", addr: freeAddress(t), config: filepath.Join(dir, "etc"), log: filepath.Join(dir, "log")}
	mustMkdir(t, p.config, -1)
	mustMkdir(t, filepath.Join(dir, "queue"), -1)
	mustMkdir(t, filepath.Join(dir, "mail"), nobody)
	owner, err := exec.Command("id", "-u", "postfix").Output()
	if err != nil {
		t.Fatalf("the user postfix: %v", err)
	}
	var uid int
	if _, err := fmt.Sscan(string(owner), &uid); err != nil {
		t.Fatal(err)
	}
	mustMkdir(t, filepath.Join(dir, "data"), uid)
	p.boxes = filepath.Join(dir, "mail/box/new/*")
	sasl := mustWrite(t, filepath.Join(p.config, "sasl"), "[localhost]:"+s.port("submission")+" alice:"+s.slapd.UserPassword+"\n", 0o600)
	routes := mustWrite(t, filepath.Join(p.config, "transport"), "corp.example smtp:[127.0.0.1]:"+s.port("smtp")+"\n", 0o644)
	ca, err := os.ReadFile(s.cert.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(p.config, "main.cf"), fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.postfix.example
mydestination =
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = postfix.example
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:%[2]d
virtual_gid_maps = static:%[2]d
virtual_mailbox_limit = 0
message_size_limit = 100000000
smtpd_peername_lookup = no
smtp_host_lookup = native
disable_dns_lookups = yes
smtp_tls_CAfile = %[3]s
smtp_tls_security_level = may
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:%[4]s
smtp_sasl_security_options = noanonymous
smtp_tls_policy_maps = inline:{ [localhost]:%[5]s=verify }
relayhost = [localhost]:%[5]s
transport_maps = texthash:%[6]s
`, dir, nobody, mustWrite(t, filepath.Join(p.config, "ca.pem"), string(ca), 0o644), sasl, s.port("submission"), routes), 0o644)
	postfixServices(t, p)
	launch(t, p.addr, p.log, exec.Command(program, "-c", p.config, "start-fg"))
	return p
}

// postfixServices writes master.cf: the services as they are delivered, but p.addr is
// the only port, and nothing runs in a chroot.
func postfixServices(t *testing.T, p *peer) {
	t.Helper()
	proto, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		t.Fatal(err)
	}
	var master strings.Builder
	for line := range strings.Lines(string(proto)) {
		f := strings.Fields(line)
		if len(f) < 8 || strings.HasPrefix(line, "#") || line[0] == ' ' {
			continue
		}
		if f[0] == "smtp" && f[1] == "inet" {
			f[0] = p.addr
		}
		f[4] = "n"
		fmt.Fprintln(&master, strings.Join(f, " "))
	}
	mustWrite(t, filepath.Join(p.config, "master.cf"), master.String(), 0o644)
}

// eximPackages are unpacked, because Exim's packages and Postfix's exclude each
// other.
var eximPackages = []string{"exim4-daemon-light", "exim4-base"}

// eximProgram downloads and unpacks Exim, once for all tests.
var eximProgram = sync.OnceValues(func() (string, error) { return unpackExim("exim", eximPackages) })

// unpackExim downloads packages and unpacks them to a directory of the cache, unless
// they are there, and returns the program in them.
func unpackExim(name string, packages []string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "dirpost", name)
	program := filepath.Join(dir, "usr/sbin/exim4")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	get := exec.CommandContext(ctx, "apt-get", append([]string{"download", "-q"}, packages...)...)
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get download of Exim: %w: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if out, err := exec.CommandContext(ctx, "dpkg", "-x", f, dir).CombinedOutput(); err != nil {
			return "", fmt.Errorf("unpack %s: %w: %s", f, err, out)
		}
	}
	return program, nil
}

// exim starts an Exim. It insists on a user of its own, which libnss-wrapper
// makes it believe in.
func exim(t *testing.T, dir string, s *system) *peer {
	t.Helper()
	unpacked, err := eximProgram()
	if err != nil {
		t.Fatal(err)
	}
	// It starts itself again as another user, who cannot enter the cache.
	b, err := os.ReadFile(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	program := mustWrite(t, filepath.Join(dir, "exim4"), string(b), 0o755)
	p := &peer{name: "exim", addr: freeAddress(t), config: filepath.Join(dir, "exim.conf"), log: filepath.Join(dir, "log/main"), boxes: filepath.Join(dir, "mail/*.eml")}
	for _, d := range []string{"spool", "log", "mail"} {
		mustMkdir(t, filepath.Join(dir, d), nobody)
	}
	host, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(s.cert.CAFile)
	if err != nil {
		t.Fatal(err)
	}
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
message_size_limit = 100M
smtp_accept_max = 200
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
acl_smtp_rcpt = take
acl_smtp_data = take
never_users =
keep_environment = LD_PRELOAD : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
exim_path = %[9]s
begin acl
take:
  accept
begin routers
ours:
  driver = accept
  domains = exim.example
  transport = box
corp:
  driver = manualroute
  domains = corp.example
  route_list = * 127.0.0.1 byname
  self = send
  transport = port25
  no_more
others:
  driver = manualroute
  route_list = * localhost byname
  self = send
  transport = submission
begin transports
box:
  driver = appendfile
  file = %[1]s/mail/$message_exim_id.eml
  user = %[2]d
  group = %[2]d
  mode = 0644
  return_path_add
  envelope_to_add
  message_prefix =
  message_suffix =
  check_string =
  escape_string =
port25:
  driver = smtp
  port = %[5]s
  hosts_try_fastopen =
  hosts_try_dane =
  tls_verify_certificates = %[7]s
  tls_try_verify_hosts =
  tls_verify_hosts = 
submission:
  driver = smtp
  port = %[6]s
  hosts_try_fastopen =
  hosts_try_dane =
  hosts_require_auth = *
  hosts_require_tls = *
  tls_verify_certificates = %[7]s
  tls_verify_hosts = *
begin retry
* * F,1h,5s
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^alice^%[8]s
`, dir, nobody, host, port, s.port("smtp"), s.port("submission"), mustWrite(t, filepath.Join(dir, "ca.pem"), string(ca), 0o644), s.slapd.UserPassword, program), 0o644)
	passwd := mustWrite(t, filepath.Join(dir, "passwd"), fmt.Sprintf("root:x:0:0::/:/bin/sh\nDebian-exim:x:%[1]d:%[1]d::/:/bin/false\n", nobody), 0o644)
	group := mustWrite(t, filepath.Join(dir, "group"), fmt.Sprintf("root:x:0:\nDebian-exim:x:%d:\n", nobody), 0o644)
	cmd := exec.Command(program, "-C", p.config, "-bdf", "-q5s")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LD_PRELOAD=libnss_wrapper.so", "NSS_WRAPPER_PASSWD=" + passwd, "NSS_WRAPPER_GROUP=" + group}
	launch(t, p.addr, p.log, cmd)
	return p
}

// A tap is a wire between two servers on which everything that the first says is
// kept.
type tap struct {
	addr   string
	target atomic.Value // string: who is at the other end
	mu     sync.Mutex   // guards said
	said   []*bytes.Buffer
}

// newTap makes a wire; its target is set before anybody speaks.
func newTap(t *testing.T) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &tap{addr: l.Addr().String()}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", w.target.Load().(string))
			if err != nil {
				_ = near.Close()
				continue
			}
			said := new(bytes.Buffer)
			w.mu.Lock()
			w.said = append(w.said, said)
			w.mu.Unlock()
			go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
			go func() {
				_, _ = io.Copy(io.MultiWriter(far, writerFunc(func(b []byte) { w.mu.Lock(); said.Write(b); w.mu.Unlock() })), near)
				_ = far.Close()
			}()
		}
	}()
	return w
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// sessions returns what was said, one string a connection.
func (w *tap) sessions() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.said {
		all = append(all, b.String())
	}
	return all
}
