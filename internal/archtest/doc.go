// Package archtest holds the rules about which package may import which, and the
// tests that read the import graph: docs/architecture.md says why the house is
// built that way, this says it to the compiler. A package without a rule, or a
// module of others without a home, fails the test.
//
// It also checks that every package has its manual page (doc.go) and that RFCs
// are cited in one form, which `make rfc` relies on.
package archtest
