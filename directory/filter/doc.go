// Package filter is the grammar of LDAP search filters, and the answer to whether
// an entry matches: what dynamic groups are made of. Nothing is asked of a server;
// the caller says what values an entry has.
//
// # Standards
//
// RFC 4515 (filters), RFC 4511 §4.5.1.7 (their meaning), RFC 4526 (absolute true
// and false), RFC 4516 (URLs). Of extensible matches only the two bit rules of
// Active Directory are known; an approximate match is an equality match.
//
// There is no schema here: values compare without regard to case and to runs of
// spaces, numbers by size where both sides are numbers. An attribute that an entry
// lacks makes a condition false, so that its negation is true; RFC 4511 would call
// it undefined only if no server knew the attribute.
//
// # Limits
//
// A filter has at most MaxSize octets, MaxDepth levels and MaxConditions
// conditions.
package filter
