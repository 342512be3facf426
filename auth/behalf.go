package auth

import (
	"dirpost/directory"
	"dirpost/internal/envelope"
)

// mayProve reports whether e may prove who it is: a person with a mailbox of ours,
// or any person who wants to act as somebody else, as masters do who have none.
func mayProve(s *directory.Snapshot, e *directory.Entry, authzid string) bool {
	return e.Kind == directory.KindPerson && (s.Keeps(e) || authzid != "")
}

// onBehalf returns whose session it is to be: that of e, or of whom the
// authorization identity names and e may act as (RFC 4422 §2).
func (b *Bridge) onBehalf(c Conn, a *attempt, s *directory.Snapshot, e *directory.Entry) (*directory.Entry, error) {
	as := e
	if a.authzid != "" {
		as = named(s, a.authzid)
	}
	switch {
	case as != nil && as.Key == e.Key && s.Keeps(e):
		return e, nil
	case as == nil || !s.Keeps(as):
		a.refuse("on behalf", "authzid", "%s is no mailbox here", a.authzid)
		return nil, ErrAuthorization
	}
	a.target = as
	switch {
	case s.InGroups(e, b.cfg.Masters):
		a.step("on behalf", true, "%s, as one of the masters", as.Primary)
		return as, nil
	case s.Rights(e, as)&rightFor(c.Protocol) == 0:
		a.refuse("on behalf", "authzid", "%s may not act as %s: neither among the masters nor with the right to it", a.authcid, as.Primary)
		return nil, ErrAuthorization
	}
	if limits := s.Limits(as); !limits.MayUseService(service(c.Protocol)) {
		a.refuse("on behalf", "service", "%s may not be used with this protocol", as.Primary)
		return nil, ErrAuthorization
	}
	a.step("on behalf", true, "%s, by a right that the directory gives", as.Primary)
	return as, nil
}

// named returns the entry that an authorization identity means: a login name, or
// the address of a mailbox that nobody logs in to.
func named(s *directory.Snapshot, authzid string) *directory.Entry {
	if e := s.ByLogin(authzid); e != nil {
		return e
	}
	if a, err := envelope.ParseAddress(authzid); err == nil {
		return s.ByAddress(a)
	}
	return nil
}

// rightFor is what it takes to act as somebody else by a protocol: who sends as
// them must be allowed to, who reads their mail must be allowed to open it.
func rightFor(protocol string) directory.Rights {
	if protocol == "smtp" {
		return directory.RightSendAs
	}
	return directory.RightOpen
}
