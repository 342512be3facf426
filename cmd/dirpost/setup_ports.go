package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/pelletier/go-toml/v2"
)

// tryPorts looks whether the ports of a new server are free, since the mail server
// that a host had before is the first thing in the way of another.
func (s *setup) tryPorts(ctx context.Context) error {
	if s.present != nil {
		return nil // they may be our own
	}
	var f struct {
		Listener []ListenerSection `toml:"listener"`
	}
	if err := toml.Unmarshal([]byte(s.listeners()), &f); err != nil {
		return err
	}
	var listen net.ListenConfig
	for _, l := range f.Listener {
		c, err := listen.Listen(ctx, "tcp", l.Address)
		if err == nil {
			_ = c.Close()
			continue
		}
		_, port, _ := net.SplitHostPort(l.Address)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			who := portOwner(port)
			if who == "" {
				who = "another program"
			}
			s.note("Port %s is taken by %s: end that before the server starts, as by 'systemctl disable --now' for a mail server that this one replaces.", port, who)
		case errors.Is(err, syscall.EACCES) && !s.packaged:
			return fmt.Errorf("port_base: this account may not listen on port %s: give 10000, which is added to all ports, or run this as root", port)
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return fmt.Errorf("listen: %s is no address of this host", s.a.Listen)
		case !errors.Is(err, syscall.EACCES): // systemd may, where we may not
			return fmt.Errorf("listen: %w", err)
		}
	}
	return nil
}

// tcpListen is the state of a socket that listens, as /proc/net/tcp has it.
const tcpListen = "0A"

// portOwner is the program that listens on a port, "" where that cannot be seen.
func portOwner(port string) string {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return ""
	}
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == tcpListen && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", n)) {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, file := range files {
		if target, err := os.Readlink(file); err != nil || !inodes[target] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(file))
		if name, err := os.ReadFile(filepath.Join(dir, "comm")); err == nil {
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
		}
	}
	return ""
}
