// Package testenv gives tests the real world: a private Postgres, a private
// slapd with Example Corp in it, certificates, a DNS server, and the programs
// of others that a test talks to. Nothing is mocked and nothing is skipped: what
// is missing fails the test with the line that installs it.
//
// One Postgres and one slapd serve all tests of a test binary; each test has a
// database of its own. They start at first use in about 0.2 seconds and vanish
// with the binary, however it ends: a small shell process waits for that and
// removes the directory; a later run removes what even a kill of the shell has
// left.
//
// # Concurrency
//
// All functions may be called from parallel tests.
package testenv
