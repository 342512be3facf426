//go:build !linux

package nonblock

import "net"

// Conn returns c: elsewhere the system calls of package net are kept.
func Conn(c net.Conn) net.Conn { return c }

// IsQuiet is true: elsewhere it is not looked at.
func IsQuiet(net.Conn) bool { return true }

// ReadNow reads nothing: elsewhere Read is all there is.
func ReadNow(net.Conn, []byte) int { return 0 }
