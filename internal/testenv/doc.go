// Package testenv gives tests the real world: a private Postgres, a private
// slapd and a private domain controller of Active Directory with Example Corp in
// them, certificates, a DNS server, and the programs of others that a test talks
// to. Nothing is mocked and nothing is skipped: what is missing fails the test
// with the line that installs it.
//
// One Postgres and one slapd serve all tests of a test binary; each test has a
// database of its own. They start at first use in about 0.2 seconds and vanish
// with the binary, however it ends: a small shell process waits for that and
// removes the directory; a later run removes what even a kill of the shell has
// left.
//
// The domain controller is a copy of one that Samba has provisioned once and that
// is kept in the user's cache directory; that takes up to a minute, a copy two to
// five seconds. Its ports (88, 389, 636) cannot be chosen, so it has an address of
// its own in 127.0.0.0/8 and needs root: as an ordinary user, run the tests that
// want it with go test -exec 'sudo -E'. Two that replicate (ADPair) take a minute to
// provision and ten seconds or so to start, in each test that asks for them.
//
// A realm of MIT Kerberos (StartRealm) needs no root, has a port of its own, and is up
// in a tenth of a second: what needs no domain asks for that.
//
// # Concurrency
//
// All functions may be called from parallel tests.
package testenv
