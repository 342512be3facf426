package auth

import (
	"time"

	"dirpost/directory"
)

// reasonDisabled is said of who was disabled, by whatever means, reasonProtocol of
// who may not use a protocol.
const (
	reasonDisabled = "account disabled"
	reasonProtocol = "protocol not allowed"
)

// Departed says why a person may not log in by any protocol at the time now, as far
// as that lasts: disabled, expired, gone from the directory, barred by a policy. ""
// is said of everybody else, and of who is not known while s may lack somebody.
func Departed(s *directory.Snapshot, person directory.Key, now time.Time) string {
	if s.ByKey(person) == nil && (!s.Ready() || s.Stale()) {
		return ""
	}
	return out(s, person, now)
}

// outAt says why a person may not be logged in to their mailbox by a protocol, ""
// for any, "" if they may.
func outAt(s *directory.Snapshot, person directory.Key, protocol string, now time.Time) string {
	if reason := out(s, person, now); reason != "" {
		return reason
	}
	e := s.ByKey(person)
	if !s.Keeps(e) {
		return "mailbox not here"
	}
	if !mayUse(s, e, protocol) {
		return reasonProtocol
	}
	return ""
}

// mayUse reports whether e may use a protocol, "" for none in particular. Nobody is
// kept from the page on which they look after their login.
func mayUse(s *directory.Snapshot, e *directory.Entry, protocol string) bool {
	limits := s.Limits(e)
	return protocol == "" || protocol == "http" || limits.MayUseService(service(protocol))
}
