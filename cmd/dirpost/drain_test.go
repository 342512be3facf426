package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
)

// TestDrain: who is being sent a message when the node is told to end gets the rest of
// it, and only then hears goodbye (RFC 9051 §7.1.5): by IMAP and by POP3.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.change("[log]\n", "[mra]\nshutdown_grace = \"60s\"\n[log]\n")
	stop := s.start()
	// Larger than what waits in the buffers between server and client.
	const lines = 1 << 20
	line := strings.Repeat("x", 30) + "\r\n"
	if err := s.deliver("friend@partner.example", []string{"bob@corp.example"}, "Subject: large\r\n\r\n"+strings.Repeat(line, lines)); err != nil {
		t.Fatal(err)
	}
	type client struct {
		conn *tls.Conn
		r    *bufio.Reader
	}
	open := map[string]client{}
	for listener, commands := range map[string][]string{
		"imaps": {"a LOGIN bob " + s.slapd.UserPassword, "b SELECT INBOX", "c FETCH 1 BODY[]"},
		"pop3s": {"USER bob", "PASS " + s.slapd.UserPassword, "RETR 1"},
	} {
		conn, err := tls.Dial("tcp", s.addr[listener], s.tls())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := client{conn, bufio.NewReader(conn)}
		for i, text := range commands {
			if _, err := fmt.Fprintf(conn, "%s\r\n", text); err != nil {
				t.Fatal(err)
			}
			for want := []string{"a OK", "b OK", "* 1 FETCH", "+OK", "+OK", "+OK"}; ; {
				got, err := c.r.ReadString('\n')
				if err != nil {
					t.Fatalf("%s: %v", text, err)
				}
				if listener == "imaps" && strings.HasPrefix(got, want[i]) || listener == "pop3s" && strings.HasPrefix(got, want[3+i]) && !strings.Contains(got, "ready") {
					break
				}
			}
		}
		open[listener] = c
	}
	var idle []*tls.Conn
	for listener := range open {
		conn, err := tls.Dial("tcp", s.addr[listener], s.tls())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
	}
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	for _, conn := range idle { // who does nothing is told at once
		if _, err := io.ReadAll(conn); err != nil {
			t.Error(err)
		}
	}
	for listener := range open { // and who comes is refused, not kept waiting
		if conn, err := net.Dial("tcp", s.addr[listener]); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: connected to a server that ends: %v", listener, err)
			if err == nil {
				conn.Close()
			}
		}
	}
	for listener, end := range map[string]string{"imaps": ")\r\nc OK FETCH completed\r\n* BYE [UNAVAILABLE] Server shutting down, please reconnect later\r\n", "pop3s": ".\r\n-ERR [SYS/TEMP] Server shutting down, please try again later\r\n"} {
		rest, err := io.ReadAll(open[listener].r)
		if err != nil {
			t.Errorf("%s: %v", listener, err)
		}
		content, ok := strings.CutSuffix(string(rest), end)
		if n := strings.Count(content, line); n != lines || !ok {
			t.Errorf("%s: %d of %d lines, and at the end %q", listener, n, lines, rest[max(0, len(rest)-200):])
		}
	}
	<-ended
}
