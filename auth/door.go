package auth

import "dirpost/directory"

// Door is the side of the house that a client comes from.
type Door uint8

// The doors.
const (
	// Outside is the world: there the bare password of the domain is worth too
	// much to be asked for by anybody who likes to guess.
	Outside Door = iota
	// Inside is what Config.Inside names, and everything while it names nothing.
	Inside
)

// String returns the word for d in the audit.
func (d Door) String() string {
	if d == Inside {
		return "inside"
	}
	return "outside"
}

// Door returns the door that c comes through. While nobody has said which
// networks are inside (Config.Inside is nil), everybody is, so that a first login
// works. This host is inside only where Inside says so: what comes from it may be a
// webmail that anybody in the world uses.
func (b *Bridge) Door(c Conn) Door {
	if b.cfg.Inside == nil {
		return Inside
	}
	client := c.Client.Unmap().WithZone("")
	for _, n := range b.cfg.Inside {
		if n.Contains(client) {
			return Inside
		}
	}
	return Outside
}

// takesDomainPasswords reports whether anybody's password of the domain is taken on
// c. Where it is not, what asks for a password wants one that we have issued.
func (b *Bridge) takesDomainPasswords(c Conn) bool {
	return b.Door(c) == Inside || len(b.cfg.OutsidePasswordGroups) > 0
}

// takesDomainPassword reports whether that of e is taken on c.
func (b *Bridge) takesDomainPassword(c Conn, e *directory.Entry) bool {
	return b.Door(c) == Inside || b.live.Snapshot().InGroups(e, b.cfg.OutsidePasswordGroups)
}
