// Command bench measures mail systems side by side: one workload, the targets
// one after the other within the same minutes, medians of several rounds, CPU
// time of all their processes. `make bench` runs it; see docs/benchmarks.md.
//
//	bench [-rounds 3] [-only inbound,logins] NAME=ENVFILE...
//
// An ENVFILE holds KEY='VALUE' lines as `dirpost demo` writes them; DIRPOST_PID
// names the root processes of the system. Each target needs the load users
// u00001… (`dirpost demo --users N`).
package main
