package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// managePage runs docs/manage-mailboxes.md from top to bottom in the company of a demo
// that has just come up: LDIF and commands as they stand there, those for OpenLDAP or
// those for Active Directory; then what the page promises holds.
func managePage(t *testing.T, env map[string]string, ad bool) {
	t.Helper()
	const page = "docs/manage-mailboxes.md"
	blocks := blocksOf(page, docPages(t)[page])
	shell := func(b docBlock, text string) {
		t.Helper()
		if out, err := exec.Command("sh", "-euc", text).CombinedOutput(); err != nil {
			t.Errorf("%s:%d: %s\n%v: %s", b.page, b.line, b.text, err, out)
		}
	}
	preamble, ran := "", 0
	for _, b := range blocks {
		forAD := strings.Contains(b.text, "DC=corp,DC=example") || strings.HasPrefix(b.text, "samba-tool ")
		switch {
		case b.lang == "sh" && preamble == "":
			var ok bool
			if preamble, ok = strings.CutSuffix(b.text, "change -f change.ldif\n"); !ok || !strings.Contains(preamble, "/var/lib/dirpost-demo/demo.env") {
				t.Fatalf("%s:%d: how changes are made is said in another way now", b.page, b.line)
			}
			preamble = strings.Replace(preamble, "/var/lib/dirpost-demo/demo.env", filepath.Join(env["DIRPOST_DIR"], "demo.env"), 1)
			if !ad { // the page says: --ad only
				preamble = strings.Replace(preamble, "export SMB_CONF_PATH=", ": ", 1)
				preamble = strings.Replace(preamble, "$DIRPOST_AD_SMB_CONF", "", 1)
			}
		case b.lang == "ldif" && forAD == ad:
			shell(b, preamble+"change <<'LDIF'\n"+b.text+"LDIF\n")
			ran++
		case b.lang == "sh" && ad:
			shell(b, preamble+b.text)
			ran++
		}
	}
	if ran < 10 {
		t.Errorf("only %d pieces were run", ran)
	}
	promises := map[string]string{
		"nina.berg@corp.example": "bob@corp.example mailbox",
		"press@corp.example":     "list",
		"events@corp.example":    "here",
	}
	if !ad {
		promises["fair@corp.example"], promises["buyers@corp.example"] = "here", "sam@supplier.example"
	}
	for address, want := range promises {
		out := ""
		for deadline := time.Now().Add(time.Minute); !strings.Contains(out, want); time.Sleep(50 * time.Millisecond) { // a process of its own can only be asked
			if out = command(t, env, "explain", address, "--from", "bob"); time.Now().After(deadline) {
				t.Errorf("%s is not %q:\n%s", address, want, out)
				break
			}
		}
	}
	// And the commands that the page shows.
	for _, c := range commandsOf(blocks) {
		if strings.HasPrefix(c.text, "dirpost ") {
			words, err := shellWords(c.text)
			if err != nil {
				t.Errorf("%s:%d: %v", c.page, c.line, err)
				continue
			}
			command(t, env, words[1:]...)
		}
	}
}
