//go:build !linux

package smtpd

import "net"

// pendingInput cannot look without waiting here; GreetPause finds early talkers.
func pendingInput(net.Conn) bool { return false }
