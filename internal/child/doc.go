// Package child runs programs of others as private, supervised children: a
// Postgres and a slapd of our own in a directory of our own, for `dirpost demo`
// and for the tests, and for the tests a domain controller by Samba. What runs
// there is what runs in production.
//
// A child runs as an unprivileged user when we are root (all but Samba, which
// needs root), has an environment of its own, and never outlives us: it gets a
// signal when its parent dies, also by SIGKILL. What it says goes to a log file in
// its directory.
//
// # Concurrency
//
// The methods of [Process] may be called from any goroutine.
//
// # Limits
//
// Linux only: the signal on the parent's death is prctl(2) PR_SET_PDEATHSIG.
//
// # Security
//
// Postgres listens on a Unix socket in a directory that only its user may enter,
// and trusts who comes through it; it has no TCP port. slapd listens where its
// configuration says, with a root password.
package child
