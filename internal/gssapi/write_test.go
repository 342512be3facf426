package gssapi

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMakeKeytab: MIT Kerberos reads our keytabs, and the keys are those of RFC
// 3962.
func TestMakeKeytab(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_800_000_000, 0)
	names := []string{"MAIL$", "imap/mail.corp.example"}
	first, err := MakeKeytab("CORP.EXAMPLE", names, "password", "ATHENA.MIT.EDUraeburn", 1, at)
	if err != nil {
		t.Fatal(err)
	}
	second, err := MakeKeytab("CORP.EXAMPLE", names, "another", "CORP.EXAMPLEhostmail.corp.example", 300, at.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	both, err := JoinKeytabs(first, second)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keytab")
	if err := os.WriteFile(path, both, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "klist", "-k", "-e", path).CombinedOutput()
	if err != nil {
		t.Fatalf("klist: %v: %s", err, out)
	}
	for _, kvno := range []int{1, 300} {
		for _, name := range names {
			for _, etype := range []string{"aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha1-96"} {
				if line := fmt.Sprintf("%4d %s@CORP.EXAMPLE (%s)", kvno, name, etype); strings.Count(string(out), line) != 1 {
					t.Errorf("klist does not show %q", line)
				}
			}
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
	list, err := ReadKeytab(both)
	if err != nil || len(list) != 8 || list[0] != (KeytabEntry{Principal: "MAIL$", Realm: "CORP.EXAMPLE", KVNO: 1, Etype: 18, Usable: true}) {
		t.Errorf("%+v, %v", list, err)
	}
	for _, bad := range [][]byte{nil, {5, 1}, first[:30]} {
		if _, err := JoinKeytabs(first, bad); err == nil {
			t.Errorf("%x is joined", bad)
		}
	}
	// RFC 3962 appendix B has the keys of this password and salt for 1,200
	// iterations.
	for etype, want := range map[int32]string{
		17: "4c01cd46d632d01e6dbe230a01ed642a",
		18: "55a6ac740ad17b4846941051e1e8b0a7548d93b0ab30a8bc3ff16280382b8c2a",
	} {
		if got, err := (derivation{etype: etype, salt: "ATHENA.MIT.EDUraeburn", params: "000004b0"}).key("password"); err != nil || fmt.Sprintf("%x", got.KeyValue) != want {
			t.Errorf("type %d: %x, %v, want %s", etype, got.KeyValue, err, want)
		}
	}
}
