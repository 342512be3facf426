package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// demoOptions are the flags of `dirpost demo`.
type demoOptions struct {
	dir           string
	host          string
	portBase      int
	users         int
	fresh         bool
	allowOutbound bool
	smarthost     string
	noRemember    bool
	ad            bool
	adAddress     string
	verbose       bool
}

// demoCommand is `dirpost demo`.
func demoCommand(std streams) *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use: "demo", Short: "Run a whole company's mail on this machine, to look at",
		Long: `Demo starts a private PostgreSQL and a private LDAP directory (with --ad a domain
controller of Active Directory) with the people of Example Corp in it, serves their mail on ports from --port-base on, checks itself
with real protocol clients, and prints how to log in. Ctrl-C ends all of it; the
mail is still there the next time, unless --fresh.

It needs the programs of PostgreSQL (15 or newer) and OpenLDAP, or with --ad those
of Samba and root, and touches nothing outside its directory.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.ad && !c.Flags().Changed("dir") {
				o.dir += "-ad"
			}
			return runDemo(c.Context(), o, std)
		},
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", defaultDemoDir(), "directory for everything; keep it short, Unix sockets live in it; with --ad, -ad is added to the default")
	f.BoolVar(&o.ad, "ad", false, "with an Active Directory, by Samba, instead of OpenLDAP; needs root")
	f.StringVar(&o.adAddress, "ad-address", "127.0.0.20", "with --ad: loopback address of the domain controller, whose ports cannot be chosen")
	f.StringVar(&o.host, "host", "127.0.0.1", "IP address to serve on; on others than loopback the password is random")
	f.IntVar(&o.portBase, "port-base", 10000, "added to the well-known ports: SMTP is served on port-base + 25")
	f.IntVar(&o.users, "users", 0, "add this many people u00001, u00002, … for load work")
	f.BoolVar(&o.fresh, "fresh", false, "begin with an empty system: delete what an earlier demo left in --dir")
	f.BoolVar(&o.allowOutbound, "allow-outbound", false, "really send mail to outside, instead of into the mailbox outbound@")
	f.StringVar(&o.smarthost, "smarthost", "", "send mail to outside to this server, HOST:PORT, as to a catcher of test mail")
	f.BoolVar(&o.noRemember, "no-remember", false, "ask the directory at each login, also for passwords that were right a moment ago")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "show the server's log on the terminal instead of in DIR/dirpost.log")
	return c
}

// isAwkward reports whether a path with r in it would have to be quoted in some file or
// command.
func isAwkward(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && !strings.ContainsRune("/-_.,:+@%=", r)
}

// defaultDemoDir is short, survives a restart of the machine, and can be entered
// by the database's user where that is another than ours.
func defaultDemoDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/dirpost-demo"
	}
	if home, err := os.UserHomeDir(); err == nil && len(home) < 60 {
		return filepath.Join(home, ".local", "share", "dirpost-demo")
	}
	name := strconv.Itoa(os.Geteuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return "/tmp/dirpost-demo-" + name
}

// A demo is one run of `dirpost demo`.
type demo struct {
	demoOptions
	out      io.Writer
	start    time.Time
	password string // of all people
	secrets  demoSecrets
	children *demoChildren
	confined bool // the process is ours, and may give up rights

	directory demoDirectory
}

// runDemo brings everything up, checks it, and serves until ctx ends.
func runDemo(ctx context.Context, o demoOptions, std streams) (err error) {
	ip, err := netip.ParseAddr(o.host)
	if err != nil || ip.IsUnspecified() {
		return fmt.Errorf("--host %s: must be one IP address of this machine, such as 127.0.0.1", o.host)
	}
	// Below it the private slapd, which is not root, could not open its port.
	if lowest, highest := 1024-389, 65535-4190; o.portBase < lowest || o.portBase > highest {
		return fmt.Errorf("--port-base %d: must be between %d and %d", o.portBase, lowest, highest)
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if i := strings.IndexFunc(o.dir, isAwkward); i >= 0 {
		return fmt.Errorf("--dir %q: shells, PostgreSQL and slapd read this path, and %q is not safe with all of them: choose one of letters, digits, - and _", o.dir, []rune(o.dir[i:])[0])
	}
	d := &demo{demoOptions: o, out: std.out, start: time.Now(), confined: std.ours()}
	d.directory = demoSlapd{d}
	if o.ad {
		d.directory = demoAD{d}
	}
	if err := d.directory.check(); err != nil {
		return err
	}
	unlock, err := d.claimDir()
	if err != nil {
		return err
	}
	defer unlock()
	listeners, err := d.listen()
	if err != nil {
		return err
	}
	defer listeners.close()
	if err := d.prepare(ip); err != nil {
		return err
	}
	d.children, err = d.startChildren(ctx)
	if err == nil {
		defer d.children.stop()
		err = d.serve(ctx, listeners)
	}
	if ctx.Err() != nil {
		return nil // asked to stop, at whatever point we were
	}
	return err
}

// step prints what was done and how long it took.
func (d *demo) step(start time.Time, format string, args ...any) {
	fmt.Fprintf(d.out, "  %6.2f s  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
}

// path is a path in the directory of the demo.
func (d *demo) path(elem ...string) string {
	return filepath.Join(append([]string{d.dir}, elem...)...)
}

// demoMark is a file that says: this directory is a demo's, --fresh may empty it.
const demoMark = "dirpost-demo"

// claimDir makes the directory or takes over that of an earlier run, and locks
// it for this run.
func (d *demo) claimDir() (unlock func(), err error) {
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return nil, fmt.Errorf("directory of the demo: %w (choose another with --dir)", err)
	}
	names, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	mark := d.path(demoMark)
	if _, err := os.Stat(mark); err != nil && len(names) > 0 {
		return nil, fmt.Errorf("%s has files that are not from a demo: choose another directory with --dir", d.dir)
	}
	f, err := os.OpenFile(mark, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("directory of the demo: %w (choose another with --dir)", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		pid, _ := os.ReadFile(mark)
		return nil, fmt.Errorf("a demo is running in %s already (process %s): stop it, or choose another directory with --dir and other ports with --port-base", d.dir, pid)
	}
	if err := awaitChildren(d.dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// Left by a run that was killed: what it says is not true any more.
	if err := os.Remove(d.path("demo.env")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(err, f.Close())
	}
	if d.fresh {
		for _, n := range names {
			if n.Name() == demoMark {
				continue
			}
			if err := os.RemoveAll(d.path(n.Name())); err != nil {
				return nil, errors.Join(err, f.Close())
			}
		}
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// The database's user passes through on the way to its data.
	if err := os.Chmod(d.dir, 0o755); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// A service is one port of the demo.
type service struct {
	name     string // in demo.env: DIRPOST_<NAME>_PORT
	port     int    // well-known
	protocol string // of the listener; "" when not ours
	tls      string
	about    string
}

var services = []service{
	{"SMTP", 25, "smtp", "starttls", "mail from other servers"},
	{"SUBMISSION", 587, "submission", "starttls", "mail from people, STARTTLS"},
	{"SUBMISSIONS", 465, "submission", "implicit", "mail from people, TLS"},
	{"IMAP", 143, "imap", "starttls", "mailboxes, STARTTLS"},
	{"IMAPS", 993, "imap", "implicit", "mailboxes, TLS"},
	{"POP3", 110, "pop3", "starttls", "mailboxes, STARTTLS"},
	{"POP3S", 995, "pop3", "implicit", "mailboxes, TLS"},
	{"HTTP", 80, "http", "off", "health and metrics"},
	{"HTTPS", 443, "http", "implicit", "people's own page"},
	{"LMTP", 24, "lmtp", "off", "mail from another MTA on this machine"},
	{"LDAP", 389, "", "", "the private directory"},
}

// serviceNamed returns the service of a name that is in the table.
func serviceNamed(name string) service {
	for _, s := range services {
		if s.name == name {
			return s
		}
	}
	panic("no service " + name)
}

// reserved are the ports of services that this version does not have yet; their
// numbers are part of what demo.env promises.
var reserved = []service{
	{name: "MANAGESIEVE", port: 4190},
}

// address is where s is served.
func (d *demo) address(s service) string {
	return net.JoinHostPort(d.host, strconv.Itoa(d.portBase+s.port))
}

// opened are listening sockets by address.
type opened map[string]net.Listener

func (o opened) close() {
	for _, l := range o {
		_ = l.Close()
	}
}

// listen opens all ports at once, before anything is started, so that a port in
// use is the first thing we say.
func (d *demo) listen() (opened, error) {
	all := make(opened)
	for _, s := range services {
		if s.name == "LDAP" && d.ad { // on the domain controller's own address
			continue
		}
		l, err := net.Listen("tcp", d.address(s))
		if err != nil {
			all.close()
			switch {
			case errors.Is(err, syscall.EADDRINUSE):
				return nil, fmt.Errorf("port %d (%s) on %s is in use: stop who uses it, or choose other ports with --port-base", d.portBase+s.port, s.name, d.host)
			case errors.Is(err, syscall.EACCES):
				return nil, fmt.Errorf("port %d (%s) needs root: choose higher ports with --port-base", d.portBase+s.port, s.name)
			case errors.Is(err, syscall.EADDRNOTAVAIL):
				return nil, fmt.Errorf("--host %s is no address of this machine", d.host)
			}
			return nil, fmt.Errorf("listen on %s: %w", d.address(s), err)
		}
		if s.protocol == "" { // a child will open it
			_ = l.Close()
			continue
		}
		all[d.address(s)] = l
	}
	return all, nil
}
