package main

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestListenUnix(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "auth")
	if _, err := listenUnix(filepath.Join(path, "below"), socketAccess{0o600, -1, -1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without its directory: %v", err)
	}
	first, err := listenUnix(path, socketAccess{0o660, -1, -1})
	if err != nil {
		t.Fatal(err)
	}
	second, err := listenUnix(path, socketAccess{0o600, os.Getuid(), os.Getgid()})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.Close(); err != nil { // the node before a reload ends
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket of the second: %v, %v", info, err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAuthSocketSection(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]AuthSocketSection{
		`mode: "0666" lets everybody`:                {Mode: "0666"},
		`mode: "rw" is no permission`:                {Mode: "rw"},
		`answer: "uid" is neither address nor login`: {Answer: "uid"},
		`path: "auth" is no absolute path`:           {Path: "auth"},
	} {
		if _, err := s.config(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", s, err, want)
		}
	}
	for want, s := range map[string]AuthSocketSection{"there is no user no-such-user": {Owner: "no-such-user"}, "there is no group no-such-group": {Group: "no-such-group"}} {
		if _, err := s.access(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", s, err, want)
		}
	}
	if a, err := (AuthSocketSection{Owner: "0", Group: "root"}).access(); err != nil || a != (socketAccess{0o660, 0, 0}) {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestAuthSocket: another program has people log in by a node that asks a real
// directory.
func TestAuthSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "auth")
	s := newSystem(t, fmt.Sprintf("[auth.socket]\npath = %q\nmode = \"0600\"\n", path))
	s.start()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	w := &wire{t, conn, bufio.NewReader(conn)}
	w.until("MECH\tPLAIN\tplaintext")
	w.until("DONE")
	login := func(id int, who, password string) string {
		return w.say(fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=smtp\tnologin\tlip=127.0.0.1\trip=192.0.2.7\tsecured\tresp=%s\n",
			id, base64.StdEncoding.EncodeToString([]byte("\x00"+who+"\x00"+password))), "")
	}
	if _, err := fmt.Fprintf(conn, "VERSION\t1\t2\nCPID\t1\n"); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct{ who, password, want string }{
		{"alice", s.slapd.UserPassword, "OK\t0\tuser=alice@corp.example"},
		{"a.example@corp.example", s.slapd.UserPassword, "FAIL\t1\t"}, // an alias is no login name
		{"alice", "wrong", "FAIL\t2\treason=Authentication credentials invalid"},
		{"dave", s.slapd.UserPassword, "FAIL\t3\tuser_disabled"},
	} {
		if got := login(i, c.who, c.password); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", c.who, got, c.want)
		}
	}
	s.slapd.Stop()
	if got := login(9, "bob", s.slapd.UserPassword); !strings.HasPrefix(got, "FAIL\t9\ttemp\tcode=temp_fail") {
		t.Errorf("with the directory away: %q", got)
	}
}
