// Package event is the one value that every stage emits about what it decided.
// Log, trace, audit, journal and metrics all read it; nothing else tells an
// operator what happened to a message or a login.
package event
