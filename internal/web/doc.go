// Package web is the HTTP, the HTTPS and the status listener of a node. It serves
// what every node has: the redirect to HTTPS, /healthz, /metrics and the path of
// ACME challenges; pages live with their owners, who mount them. The status listener
// has no pages, and /livez besides, which says that the process runs whatever its
// database does.
//
// # Standards
//
// RFC 9110, RFC 9113 (HTTP/2 on HTTPS), RFC 6797 (HSTS), RFC 8555 §8.3 (the ACME
// path is served in clear).
//
// # Concurrency
//
// Handle and HandlePlain are called before the first Serve. A request has a
// goroutine of net/http's; checks of /healthz run one at a time, and their answer
// is shared for a second.
//
// # Limits
//
// 10 s for a request's header, 30 s for all of it, 60 s for the answer, 32 KiB of
// header. The body is limited by whoever reads it.
//
// # Security
//
// Answers over HTTPS carry HSTS and headers that forbid framing, sniffing and
// scripts unless the page's owner says otherwise. /metrics and the details of
// /healthz are for allowed networks only, judged by the connected address: no
// header of a client changes it.
package web
