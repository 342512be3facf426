package descriptor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ErrDenied reports that an entry denies an account what is to be allowed.
var ErrDenied = errors.New("an entry of the access list denies it")

// Control bits of a descriptor that say something about its access list, beside that
// there is one ([MS-DTYP] §2.4.6).
const (
	controlDACLRequested = 0x0100 // what containers hand down is to be taken
	controlDACLInherited = 0x0400 // what containers hand down was taken
	controlDACLProtected = 0x1000 // and is not
	controlSelfRelative  = 0x8000

	controlsOfList = controlDACLRequested | controlDACLInherited | controlDACLProtected
)

// rawEntry is one entry of an access list: as it stands, and what it says if that
// matters.
type rawEntry struct {
	octets []byte
	Entry
	// simple says that it is about all of the object, and nothing but who may what.
	simple bool
}

// isFor reports whether the entry allows an account something, here and by itself.
func (e rawEntry) isFor(trustee string) bool {
	return e.simple && !e.Deny && !e.Inherited && !e.InheritOnly && e.Trustee == trustee
}

// Grant returns the access list of a descriptor with one entry more, which allows the
// account of a SID, as objectSid has it, the rights of mask; false where nothing need
// be changed: it has them by an entry that names it, or everybody may do everything. All
// other entries stay as they are, octet by octet and in their order. The new one stands
// behind those of the object itself and before those that containers hand down.
//
// What is returned is a descriptor without owner. The error is ErrSyntax, or ErrDenied
// where an entry that names the account denies it one of the rights.
func Grant(b, sid []byte, mask Mask) (changed []byte, ok bool, err error) {
	trustee, n, err := sidAt(sid, 0)
	if err != nil {
		return nil, false, err
	}
	d, all, err := rawEntries(b)
	if err != nil || d.Open {
		return nil, false, err
	}
	at := len(all)
	for i, e := range all {
		switch {
		case e.simple && e.Deny && !e.InheritOnly && e.Trustee == trustee && e.Mask&mask != 0:
			return nil, false, ErrDenied
		case e.simple && !e.Deny && !e.InheritOnly && e.Trustee == trustee && e.Mask&mask == mask:
			return nil, false, nil
		case e.octets[1]&flagInherited != 0:
			at = min(at, i)
		}
	}
	own := make([]byte, 4, 8+n)
	own[0] = kindAllowed
	binary.LittleEndian.PutUint16(own[2:], uint16(8+n))
	own = append(binary.LittleEndian.AppendUint32(own, uint32(mask)), sid[:n]...)
	changed, err = withEntries(b, slices.Insert(all, at, rawEntry{octets: own}))
	return changed, err == nil, err
}

// Revoke returns the access list of a descriptor without the entries that allow the
// account of a SID nothing but rights of mask; false where there are none. All else is
// as with Grant.
func Revoke(b, sid []byte, mask Mask) (changed []byte, ok bool, err error) {
	trustee, _, err := sidAt(sid, 0)
	if err != nil {
		return nil, false, err
	}
	_, all, err := rawEntries(b)
	if err != nil {
		return nil, false, err
	}
	before := len(all)
	all = slices.DeleteFunc(all, func(e rawEntry) bool { return e.isFor(trustee) && e.Mask&^mask == 0 })
	if len(all) == before {
		return nil, false, nil
	}
	changed, err = withEntries(b, all)
	return changed, err == nil, err
}

// Allows reports whether an entry that names it allows the account of a SID the rights of
// mask. What it may by the groups that it is in does not show here.
func (d Descriptor) Allows(sid string, mask Mask) bool {
	for _, e := range d.Access {
		if e.Trustee != sid || e.InheritOnly || e.Object != "" {
			continue
		}
		if e.Deny && e.Mask&mask != 0 {
			return false
		}
		if !e.Deny && e.Mask&mask == mask {
			return true
		}
	}
	return d.Open
}

// OwnedByAdministrators returns a descriptor that says nothing but that the group
// Administrators of the domain (S-1-5-32-544) owns the object.
func OwnedByAdministrators() []byte {
	b := make([]byte, headerSize)
	b[0] = 1
	binary.LittleEndian.PutUint16(b[2:], controlSelfRelative)
	binary.LittleEndian.PutUint32(b[4:], headerSize)
	return append(b, 1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0)
}

// rawEntries takes the access list of a descriptor apart.
func rawEntries(b []byte) (Descriptor, []rawEntry, error) {
	d, err := Parse(b)
	if err != nil {
		return d, nil, err
	}
	at := binary.LittleEndian.Uint32(b[16:])
	if binary.LittleEndian.Uint16(b[2:])&controlDACLPresent == 0 {
		return d, nil, fmt.Errorf("%w: no access list", ErrSyntax)
	}
	if at == 0 {
		return d, nil, nil
	}
	octets, err := entriesAt(b, at)
	if err != nil {
		return d, nil, err
	}
	all := make([]rawEntry, len(octets))
	for i, o := range octets {
		e, _, err := entry(o)
		if err != nil {
			return d, nil, fmt.Errorf("entry %d: %w", i, err)
		}
		all[i] = rawEntry{octets: o, Entry: e, simple: o[0] == kindAllowed || o[0] == kindDenied}
	}
	return d, all, nil
}

// withEntries is b with another access list and nothing else.
func withEntries(b []byte, all []rawEntry) ([]byte, error) {
	revision := byte(2) // [MS-DTYP] §2.4.5: 4 where there may be entries about an attribute
	if at := binary.LittleEndian.Uint32(b[16:]); at != 0 {
		revision = b[at]
	}
	list := []byte{revision, 0, 0, 0, 0, 0, 0, 0}
	for _, e := range all {
		list = append(list, e.octets...)
	}
	if len(list) > 1<<16-1 || len(all) > MaxEntries {
		return nil, fmt.Errorf("access list has no room: %d entries of %d octets", len(all), len(list))
	}
	binary.LittleEndian.PutUint16(list[2:], uint16(len(list)))
	binary.LittleEndian.PutUint16(list[4:], uint16(len(all)))
	out := make([]byte, headerSize, headerSize+len(list))
	out[0] = 1
	control := binary.LittleEndian.Uint16(b[2:])&controlsOfList | controlDACLPresent | controlSelfRelative
	binary.LittleEndian.PutUint16(out[2:], control)
	binary.LittleEndian.PutUint32(out[16:], headerSize)
	return append(out, list...), nil
}
