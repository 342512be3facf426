//go:build acceptance

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dirpost/internal/testenv"
)

// A thunderbird is the real program with a new profile, on a screen that nobody sees,
// as a person has it who starts it for the first time.
type thunderbird struct {
	*marionette
	typed time.Time // when the person has begun to type
}

// newThunderbird starts it. All names lead to the address ip, where it is given; the
// company's authority is trusted by its policies, among which further ones may be.
func newThunderbird(t *testing.T, ip, ca string, policies map[string]any, env ...string) *thunderbird {
	t.Helper()
	home := t.TempDir()
	profile := filepath.Join(home, "profile")
	if err := os.Mkdir(profile, 0o700); err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"Certificates": map[string]any{"Install": []string{ca}}}
	for name, p := range policies {
		all[name] = p
	}
	text, err := json.Marshal(map[string]any{"policies": all})
	if err != nil {
		t.Fatal(err)
	}
	writePolicy(t, "/etc/thunderbird/policies/policies.json", string(text))
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(profile, "user.js"), fmt.Sprintf(`
user_pref("network.dns.forceResolve", %q); // the names of the test
user_pref("marionette.port", %s);
user_pref("remote.prefs.recommended", false); // as people have it
// No questions and offers beside the account.
user_pref("mail.shell.checkDefaultClient", false);
user_pref("mail.inappnotifications.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("mail.tabs.drawInTitlebar", false);
user_pref("mail.biff.play_sound", false);
user_pref("mail.rights.version", 1);
`, ip, port))
	program := exec.Command(testenv.Need(t, "thunderbird"), "--profile", profile, "--no-remote", "--marionette", "--remote-allow-system-access")
	program.Env = append(append(os.Environ(), "HOME="+home, "DISPLAY="+display(t), "LANG=C.UTF-8", "MOZ_CRASHREPORTER_DISABLE=1"), env...)
	out := new(lockedBuffer)
	program.Stdout, program.Stderr = out, out
	begin(t, program)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Thunderbird says\n%s", out.String())
		}
	})
	return &thunderbird{marionette: newMarionette(t, port)}
}

// writePolicy writes a file of the system for the time of the test.
func writePolicy(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
}

// begin starts a program that ends with the test, and all that it has started.
func begin(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

// display starts a display without a screen and returns its name.
func display(t *testing.T) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(testenv.Need(t, "Xvfb"), "-displayfd", "3", "-screen", "0", "1280x900x24", "-nolisten", "tcp")
	cmd.ExtraFiles = []*os.File{w}
	begin(t, cmd)
	_ = w.Close()
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb names no display: %v", err)
	}
	return ":" + strings.TrimSpace(number)
}

// setUp goes through the wizard as a person does who knows name, address and password.
// Without a password none is asked for. It returns what the wizard has found.
func (b *thunderbird) setUp(name, address, password string) (found string) {
	b.t.Helper()
	b.window("mail:3pane")
	b.wait("#realName")
	b.shot("wizard-1-empty")
	b.typed = time.Now()
	b.must("WebDriver:ElementClear", map[string]any{"id": b.wait("#realName").id()}) // it knows who root is
	b.write("#realName", name)
	b.write("#email", address)
	b.shot("wizard-2-address")
	b.press("#forward")
	b.wait("#incomingHost")
	found = b.text("#configSelection")
	b.shot("wizard-3-found")
	b.press("#forward")
	if password != "" {
		b.write("#password", password)
		b.shot("wizard-4-password")
		b.press("#forward")
	}
	b.wait("email-added-success")
	b.shot("wizard-5-added")
	b.press("#forward")
	b.t.Logf("account added %.1f s after the first letter", time.Since(b.typed).Seconds())
	return found
}

// open opens the newest message in the inbox, which has a subject and says something.
func (b *thunderbird) open(subject, says string) {
	b.t.Helper()
	b.window("mail:3pane")
	b.press(`#folderTree li[data-folder-type~="inbox"] .name, #folderTree li.inbox .name`)
	b.until("the message is in the list", func() error {
		if list := b.text("#threadTree"); !strings.Contains(list, subject) {
			return fmt.Errorf("the list has %q", list)
		}
		return nil
	})
	b.press("#threadTree tbody tr")
	b.until("the message is shown", func() error {
		var text string
		if err := b.script(&text, `
const about = document.getElementById("tabmail").currentAboutMessage;
return about.getMessagePaneBrowser().contentDocument.body.innerText;`); err != nil {
			return err
		}
		if !strings.Contains(text, says) {
			return fmt.Errorf("what is shown says %q", text)
		}
		return nil
	})
	b.t.Logf("message shown %.1f s after the first letter", time.Since(b.typed).Seconds())
}

// send writes a message and sends it.
func (b *thunderbird) send(to, subject, text string) {
	b.t.Helper()
	b.window("mail:3pane")
	b.press("#folderPaneWriteMessage")
	b.window("msgcompose")
	b.write("#toAddrInput", to+"\uE004") // Tab
	b.write("#msgSubject", subject)
	b.press("#messageEditor")
	b.keys(text)
	b.shot("write")
	b.press("#button-send")
	b.until("the window is closed", func() error {
		handles := b.must("WebDriver:GetWindowHandles", map[string]any{})
		if strings.Count(string(handles), ",") > 0 {
			return fmt.Errorf("there are %s", handles)
		}
		return nil
	})
}

// forThunderbird puts the server where a client finds it that knows an address and
// nothing else: at the ports of HTTP and HTTPS of an address of its own, with a
// certificate for the names that the DNS would have. It returns that address.
func (s *system) forThunderbird(host string) (ip string) {
	s.t.Helper()
	ip = fmt.Sprintf("127.%d.%d.%d", 100+os.Getpid()%100, os.Getpid()/100%250, 1+nextPort.Add(1)%250)
	b, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	old := s.file.TLS.Certificate[0]
	s.cert = testenv.Certificate(s.t, host, "corp.example", "autoconfig.corp.example", "autodiscover.corp.example", "localhost")
	text := strings.NewReplacer(strconv.Quote(old.Chain), strconv.Quote(s.cert.CertFile), strconv.Quote(old.Key), strconv.Quote(s.cert.KeyFile)).Replace(string(b))
	for name, address := range s.addr {
		port := map[string]string{"http": "80", "https": "443"}[name]
		if port == "" {
			port = s.port(name)
		}
		s.addr[name] = ip + ":" + port
		text = strings.Replace(text, strconv.Quote(address), strconv.Quote(s.addr[name]), 1)
	}
	writeFile(s.t, s.config, text)
	if s.file, err = readConfig(s.config); err != nil {
		s.t.Fatal(err)
	}
	return ip
}

// TestAcceptanceThunderbird: people who know their address and their password and
// nothing else read and write their mail by Thunderbird's own wizard, whatever name
// the directory wants of them.
func TestAcceptanceThunderbird(t *testing.T) {
	// The address of heidi is a login name of somebody else, too.
	s := newSystemIn(t, databaseURL(t), "", testenv.SlapdWith(t, "", `
dn: uid=heidi,ou=people,dc=corp,dc=example
objectClass: inetOrgPerson
objectClass: dirpostMailbox
uid: heidi
cn: Heidi Example
sn: Example
mail: heidi@corp.example
userPassword: demo

dn: uid=heidi@corp.example,ou=people,dc=corp,dc=example
objectClass: inetOrgPerson
objectClass: dirpostMailbox
uid: heidi@corp.example
cn: Another Heidi
sn: Another
mail: another@corp.example
`))
	s.confirm()
	ip := s.forThunderbird("mail.corp.example")
	s.change("\n[auth]\n", "\n[autoconfig]\norganisation = \"Example Corp\"\n[auth]\n")
	s.start()
	for i, c := range []struct{ what, name, address, login string }{
		{"address", "Alice Example", "alice@corp.example", "alice@corp.example"},
		{"alias", "Alice Example", "a.example@corp.example", "alice@corp.example"},
		{"uid", "Heidi Example", "heidi@corp.example", "heidi"},
	} {
		t.Run(c.what, func(t *testing.T) {
			if err := s.deliver("friend@partner.example", []string{c.address}, "From: Friend <friend@partner.example>\r\nTo: "+c.address+"\r\nSubject: Welcome ("+c.what+")\r\nDate: "+time.Now().Format(time.RFC1123Z)+"\r\nMessage-ID: <"+c.what+"@partner.example>\r\n\r\nYou have found it.\r\n"); err != nil {
				t.Fatal(err)
			}
			b := newThunderbird(t, ip, s.cert.CAFile, nil)
			found := b.setUp(c.name, c.address, s.slapd.UserPassword)
			t.Logf("Thunderbird has found: %s", found)
			for _, want := range []string{"mail.corp.example", s.port("imaps"), s.port("submissions"), " " + c.login + " "} {
				if !strings.Contains(found+" ", want) {
					t.Errorf("it has not found %q", want)
				}
			}
			b.open("Welcome ("+c.what+")", "You have found it.")
			b.shot("message-" + c.what)
			b.send("bob@corp.example", "Reply ("+c.what+")", "It was easy.")
			got := strings.Join(s.await("bob", "INBOX", i+1), "\n")
			if !strings.Contains(got, "Subject: Reply ("+c.what+")") || !strings.Contains(got, "It was easy.") {
				t.Errorf("bob has got %s", got)
			}
			t.Logf("and an answer is in Bob's mailbox %.1f s after the first letter", time.Since(b.typed).Seconds())
		})
	}
}
