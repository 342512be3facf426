package child

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ErrNotRoot reports that a domain controller cannot be started: its ports cannot
// be chosen, and an ordinary user may not have them.
var ErrNotRoot = errors.New("a Samba domain controller needs the ports 88, 389 and 636: run this as root, or in a network of its own by deploy/own-network.sh (go test -exec)")

// CanBeController returns ErrNotRoot unless we may listen on the ports of a domain
// controller: as root, or where the kernel leaves these ports to everybody.
func CanBeController() error {
	if os.Geteuid() == 0 {
		return nil
	}
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return ErrNotRoot
	}
	if first, err := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || first > 88 {
		return ErrNotRoot
	}
	return nil
}

// asRoot makes an ordinary user root of a user namespace (user_namespaces(7)) with
// nobody else in it: Samba only wants to be called so.
func asRoot(a *syscall.SysProcAttr) {
	if os.Geteuid() == 0 {
		return
	}
	a.Cloneflags |= syscall.CLONE_NEWUSER
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
}
