package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"github.com/prometheus/client_golang/prometheus"
)

// SystemSection is [system].
type SystemSection struct {
	Landlock string `toml:"landlock"`
}

// The words of system.landlock.
const (
	landlockAuto     = "auto"     // where the kernel has it; also ""
	landlockOff      = "off"      // never
	landlockRequired = "required" // serve ends without it
)

func (s SystemSection) validate() error {
	switch s.Landlock {
	case "", landlockAuto, landlockOff, landlockRequired:
		return nil
	}
	return fmt.Errorf("system.landlock: %q is none of auto, off, required", s.Landlock)
}

// landlockVersion is the version of Landlock (landlock(7)) that the kernel has and
// lets us use, 0 for none.
func landlockVersion() int {
	v, err := llsys.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return v
}

// errNoLandlock reports a kernel that cannot do what system.landlock requires.
var errNoLandlock = errors.New(`system.landlock: the kernel has no Landlock, or the unit does not allow its calls: "cat /sys/kernel/security/lsm" names it where it is on (lsm=landlock,… on the kernel's command line); "auto" goes on without it`)

// confine gives up, for this process and for good, every access to files but those
// of a, and the right to start programs. It returns the version of Landlock that is in
// force, 0 if the kernel has none or s does not want it. Connections are not
// restricted: whom a node talks to changes with the directory and the DNS.
//
// The rights are those of version 8: what later ones restrict, first of all
// connecting to sockets such as that of PostgreSQL, is used.
func (s SystemSection) confine(a fileAccess) (int, error) {
	version := landlockVersion()
	switch {
	case s.Landlock == landlockOff:
		return 0, nil
	case version == 0 && s.Landlock == landlockRequired:
		return 0, errNoLandlock
	case version == 0:
		return 0, nil
	}
	if err := landlock.V8.BestEffort().RestrictPaths(a.rules()...); err != nil {
		return 0, fmt.Errorf("restrict access to files (system.landlock): %w", err)
	}
	return version, nil
}

// rules are a in the words of the kernel. What is not there is left out.
func (a fileAccess) rules() []landlock.Rule {
	const makeSockets = llsys.AccessFSMakeSock | llsys.AccessFSRemoveFile | llsys.AccessFSReadDir
	const read = llsys.AccessFSReadFile | llsys.AccessFSReadDir // not execute
	return []landlock.Rule{
		landlock.PathAccess(read, a.read...).IgnoreIfMissing(),
		landlock.PathAccess(llsys.AccessFSReadFile, a.files...).IgnoreIfMissing(),
		landlock.PathAccess(llsys.AccessFSReadFile|llsys.AccessFSWriteFile, os.DevNull).IgnoreIfMissing(),
		landlock.PathAccess(makeSockets, a.sockets...).IgnoreIfMissing(),
		landlock.RWDirs(a.write...).IgnoreIfMissing(),
	}
}

// confine restricts the process of a server, which it must have for itself, to what f
// needs, and says in the log what is in force.
func (s *server) confine(ctx context.Context, f *File) error {
	_, _ = x509.SystemCertPool() // read once, from wherever this system has them; who wants one reports it
	a := f.fileAccess(s.path, thisHost)
	a.write = s.writes
	if roles, err := f.roles(s.roles); err == nil && slices.Contains(roles, roleMSA) && f.Server.Socket != "" {
		_ = os.MkdirAll(filepath.Dir(f.Server.Socket), 0o755) // as localServer does, which cannot any more, and reports it
	}
	var err error
	if s.landlock, err = f.System.confine(a); err != nil {
		return err
	}
	switch {
	case s.landlock > 0:
		s.log.InfoContext(ctx, "access to files is restricted by Landlock", "version", s.landlock, "read", a.read, "sockets", a.sockets)
	case f.System.Landlock == landlockOff:
		s.log.InfoContext(ctx, "access to files is not restricted by Landlock: system.landlock is off")
	default:
		s.log.LogAttrs(ctx, slog.LevelWarn, "access to files is not restricted: the kernel has no Landlock, or the unit does not allow its calls")
	}
	return nil
}

// explainDenied says what may be behind files that a reload cannot read.
func (s *server) explainDenied(err error) error {
	if s.landlock > 0 && errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (a running node may read the directories alone that its configuration named at the start: restart it for others)", err)
	}
	return err
}

// landlockInfo is the metric by which it is seen whether Landlock is in force.
func landlockInfo(version int) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: landlockMetric, Help: "The version of Landlock that restricts the node's access to files, 0: it is not restricted."})
	g.Set(float64(version))
	return g
}

const landlockMetric = "dirpost_system_landlock_version"
