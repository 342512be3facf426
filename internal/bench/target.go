package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// target is a running mail system.
type target struct {
	name             string
	host             string
	smtp, imap, pop3 string // host:port
	imaps            string
	submission       string
	database         string // URL, of Dirpost only
	list             string // address of a list of everybody, "" for none
	members          int    // of it
	domain           string
	password         string
	pids             []int // roots of its processes
}

// user returns the address of load user n, counted from 1.
func (t *target) user(n int) string { return fmt.Sprintf("u%05d@%s", n, t.domain) }

// readTarget reads a file of KEY=VALUE lines as `dirpost demo` writes them. The
// peers' script writes the same keys.
func readTarget(name, file string) (*target, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	env := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		k, v, ok := strings.Cut(lines.Text(), "=")
		if ok {
			env[k] = strings.Trim(v, "'")
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	t := &target{name: name, host: env["DIRPOST_HOST"], domain: env["DIRPOST_DOMAIN"], password: env["DIRPOST_USER_PASSWORD"]}
	at := func(key string) string { return t.host + ":" + env["DIRPOST_"+key+"_PORT"] }
	t.smtp, t.imap, t.pop3, t.imaps, t.submission = at("SMTP"), at("IMAP"), at("POP3"), at("IMAPS"), at("SUBMISSION")
	t.database, t.list = env["DIRPOST_DATABASE_URL"], env["DIRPOST_LIST"]
	t.members, _ = strconv.Atoi(env["DIRPOST_LIST_MEMBERS"])
	for _, s := range strings.Fields(env["DIRPOST_PID"]) {
		pid, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("%s: DIRPOST_PID: %w", file, err)
		}
		t.pids = append(t.pids, pid)
	}
	return t, nil
}
