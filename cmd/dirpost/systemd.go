package main

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// inheritedSockets returns the listening sockets that systemd has opened for this
// process (socket activation, sd_listen_fds(3)), by their address; none outside of
// it. With them a server needs no right to open the ports of mail, and while it is
// restarted clients wait instead of being refused.
func inheritedSockets() (map[string]net.Listener, error) {
	all, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets of systemd: %w", err)
	}
	open := make(map[string]net.Listener, len(all))
	for _, l := range all {
		if l == nil {
			return nil, fmt.Errorf("sockets of systemd: one of them is no TCP socket that listens: remove it from the socket unit")
		}
		open[l.Addr().String()] = l
	}
	return open, nil
}

// notifySystemd tells systemd the state of the service (sd_notify(3)), and nobody
// outside of it. There is nobody to hear that it could not.
func notifySystemd(state string) { _, _ = daemon.SdNotify(false, state) }

// socketKey is the address of a listener as the configuration and the kernel both
// write it: ":25" and "[::]:25" are the same socket.
func socketKey(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address // whoever listens there reports it
	}
	if n, err := net.LookupPort("tcp", port); err == nil {
		port = fmt.Sprint(n)
	}
	if host == "" {
		host = "::"
	}
	return net.JoinHostPort(host, port)
}
