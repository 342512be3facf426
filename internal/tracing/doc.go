// Package tracing makes spans of events and sends them to a collector of
// OpenTelemetry. It is an event.Sink in front of that of the log; where nobody asked
// for traces there is none.
//
// A trace has the id that all lines of the log have for the same message or session:
// its W3C trace id is the first 16 octets of the SHA-256 of the queue id or session
// id, and the span that everything else is part of has the next 8 octets. So every
// node finds trace and parent of what it does without a word from the others, all
// draw the same traces for the sample, and an administrator computes the id with
// sha256sum(1). Lines of the log have it as trace_id. A message and the session it
// came in by are two traces, linked in both directions: a connection that brings ten
// thousand messages is not one trace of all.
//
// # Standards
//
// OTLP 1 over HTTP, binary, gzip: one POST for up to 512 spans. The messages are
// those of go.opentelemetry.io/proto/otlp. The SDK and its exporter are not used:
// spans are made when everything about them is known, so there is nothing to keep in
// contexts, ids and sampling are not random, drops must be counted, settings come from
// the configuration and not from the environment, and the exporter brings gRPC with
// it, 6 MB and a second HTTP/2, for a POST.
//
// # Concurrency
//
// Emit may be called by any number of goroutines and never waits: what does not fit
// into the queue is dropped and counted. Run sends; Close sends the rest, for three
// seconds at most.
//
// # Limits
//
// A span is made of what an event says, so what is unfinished when a process is
// killed has none. Only a whole trace is drawn into the sample or left out.
//
// # Bugs
//
// Logins by HTTP stand below a session that has no span of its own: a web session
// has no end that somebody sees. A span that a broken-off request has brought already
// may come twice, with the same id.
//
// # Security
//
// Attributes are those of a list: no addresses, names of people, client addresses or
// texts of errors, unless Config.Personal says so; what the log hides is never
// among them. Redirects are not followed: the header that authenticates us is for one
// host.
package tracing
