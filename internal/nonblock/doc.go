// Package nonblock reads and writes sockets without telling Go's scheduler, which
// has nothing to do: a socket of package net never blocks in the kernel.
//
// Before every other system call the runtime prepares for a thread that is stuck
// there. In a server that was idle for a moment it wakes its monitor thread to
// watch over the call, which then looks around every 20 µs. With one client that
// sends message after message, the server is idle after each reply: the monitor
// and its wake-ups cost a quarter of the processor time of a delivery.
//
// # Concurrency
//
// A connection may be used as any net.Conn. A thread in one of these calls cannot
// be given other work, so each moves a bounded number of octets.
package nonblock
