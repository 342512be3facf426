package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"dirpost/auth"
	"dirpost/auth/dovecot"
)

// AuthSocketSection is [auth.socket]: logins for other programs of this machine.
type AuthSocketSection struct {
	Path           string   `toml:"path"`
	Mode           string   `toml:"mode"`
	Owner          string   `toml:"owner"`
	Group          string   `toml:"group"`
	Services       []string `toml:"services"`
	Mechanisms     []string `toml:"mechanisms"`
	AssumeSecured  bool     `toml:"assume_secured"`
	Answer         string   `toml:"answer"`
	MaxConnections int      `toml:"max_connections"`
}

// config is the section as the package has it.
func (s AuthSocketSection) config() (dovecot.Config, error) {
	c := dovecot.Config{Services: s.Services, AssumeSecured: s.AssumeSecured, MaxConnections: s.MaxConnections}
	for _, m := range s.Mechanisms {
		c.Mechanisms = append(c.Mechanisms, strings.ToUpper(m))
	}
	errs := []error{c.Validate()}
	switch s.Answer {
	case "", "address":
	case "login":
		c.LoginName = true
	default:
		errs = append(errs, fmt.Errorf("answer: %q is neither address nor login", s.Answer))
	}
	if s.Path != "" && !filepath.IsAbs(s.Path) {
		errs = append(errs, fmt.Errorf("path: %q is no absolute path", s.Path))
	}
	if _, err := s.mode(); err != nil {
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}

// mode is who may connect. Whoever may is believed who its clients are, so it is not
// everybody.
func (s AuthSocketSection) mode() (fs.FileMode, error) {
	if s.Mode == "" {
		return 0o660, nil
	}
	n, err := strconv.ParseUint(s.Mode, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("mode: %q is no permission such as 0660", s.Mode)
	}
	if n&0o002 != 0 {
		return 0, fmt.Errorf("mode: %q lets everybody on this machine try passwords in the name of any address: give the socket a group instead", s.Mode)
	}
	return fs.FileMode(n), nil
}

// access is who the socket belongs to.
func (s AuthSocketSection) access() (socketAccess, error) {
	a := socketAccess{uid: -1, gid: -1}
	var err error
	if a.mode, err = s.mode(); err != nil {
		return a, err
	}
	if s.Owner != "" {
		u, err := user.Lookup(s.Owner)
		if err != nil {
			u, err = user.LookupId(s.Owner)
		}
		if err != nil {
			return a, fmt.Errorf("owner: there is no user %s", s.Owner)
		}
		a.uid, _ = strconv.Atoi(u.Uid) // numbers, here
	}
	if s.Group != "" {
		g, err := user.LookupGroup(s.Group)
		if err != nil {
			g, err = user.LookupGroupId(s.Group)
		}
		if err != nil {
			return a, fmt.Errorf("group: there is no group %s", s.Group)
		}
		a.gid, _ = strconv.Atoi(g.Gid)
	}
	return a, nil
}

// buildSocket opens the socket on which other programs have people log in.
func (n *node) buildSocket(context.Context) error {
	section := n.file.Auth.Socket
	if section.Path == "" || n.auth == nil {
		return nil
	}
	c, err := section.config()
	if err != nil {
		return fmt.Errorf("auth.socket: %w", err)
	}
	access, err := section.access()
	if err != nil {
		return fmt.Errorf("auth.socket: %w", err)
	}
	s, err := dovecot.New(c, dovecot.Deps{Bridge: n.auth, Mechanisms: n.socketMechanisms, Log: n.log})
	if err != nil {
		return fmt.Errorf("auth.socket: %w", err)
	}
	socket, err := listenUnix(section.Path, access)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("auth.socket.path: there is no directory %s", filepath.Dir(section.Path))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("auth.socket: %w: the directory must be writable for dirpost, also by its unit, and owner and group ones that it may give away (docs/auth-socket.md)", err)
	case err != nil:
		return fmt.Errorf("auth.socket: %w", err)
	}
	n.register(s.Collectors()...)
	n.front = append(n.front, part{"logins for other programs", func(ctx context.Context) error { return s.Serve(ctx, socket) }})
	return nil
}

// socketMechanisms are what a client gets to see before it has said where its own
// client comes from: what works at both doors, so that whoever takes the strongest
// one succeeds; or, where the configuration names mechanisms, all that work at one.
func (n *node) socketMechanisms() []string {
	section := n.file.Auth.Socket
	inside, outside := netip.IPv6Unspecified(), netip.IPv6Unspecified()
	if c, err := n.file.Auth.config(); err == nil && len(c.Inside) > 0 {
		inside = c.Inside[0].Addr()
	}
	service := "smtp"
	if len(section.Services) > 0 {
		service = section.Services[0]
	}
	at := func(client netip.Addr) []string {
		return n.auth.Mechanisms(auth.Conn{Protocol: service, Client: client, TLS: true})
	}
	first, second := at(inside), at(outside)
	if len(section.Mechanisms) == 0 {
		return slices.DeleteFunc(first, func(m string) bool { return !slices.Contains(second, m) })
	}
	for _, m := range second {
		if !slices.Contains(first, m) {
			first = append(first, m)
		}
	}
	return first
}

// socketAccess is who may connect to a Unix socket: -1 leaves owner or group as they
// are.
type socketAccess struct {
	mode     fs.FileMode
	uid, gid int
}

// listenUnix opens a Unix socket in place of one that a dead process has left.
func listenUnix(path string, a socketAccess) (*net.UnixListener, error) {
	// Replace atomically: a node that ends after we have begun, at a reload, must
	// not take our socket away, so nobody unlinks at the end.
	part := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: part, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if a.uid >= 0 || a.gid >= 0 {
		if err := os.Chown(part, a.uid, a.gid); err != nil {
			return nil, errors.Join(err, l.Close(), os.Remove(part))
		}
	}
	if err := os.Chmod(part, a.mode); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(part))
	}
	if err := os.Rename(part, path); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(part))
	}
	return l, nil
}
