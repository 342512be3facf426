package descriptor

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// The bounds of a descriptor. A list has a size of 16 bits.
const (
	MaxSize    = 128 << 10
	MaxEntries = 4096
)

// ErrSyntax reports octets that are no security descriptor.
var ErrSyntax = errors.New("not a security descriptor")

// Descriptor is a security descriptor, without the list of what is audited.
type Descriptor struct {
	Owner  string // SID, "" if it was not asked for
	Access []Entry
	// Open says that there is no list of access: everybody may do everything.
	Open bool
}

// Entry is one entry of the access list, in its order.
type Entry struct {
	Deny        bool
	InheritOnly bool // says nothing about the object itself
	Inherited   bool // comes from a container
	Mask        Mask
	Object      string // GUID of the attribute, set of them, or right that it is about; "": all
	Trustee     string // SID
}

// Mask is a set of rights (MS-ADTS 5.1.3.2).
type Mask uint32

// The rights that matter here.
const (
	CreateChild   Mask = 0x1
	ListChildren  Mask = 0x4     // see what is below
	Self          Mask = 0x8     // a validated write, such as adding oneself to a group
	ReadProperty  Mask = 0x10    // of Object
	WriteProperty Mask = 0x20    // of Object
	ControlAccess Mask = 0x100   // the extended right Object
	ReadControl   Mask = 0x20000 // read the descriptor
	WriteDAC      Mask = 0x40000
	WriteOwner    Mask = 0x80000
	GenericAll    Mask = 0x10000000
	GenericWrite  Mask = 0x40000000
)

// GUIDs that Object may have.
const (
	SendAs     = "ab721a54-1e2f-11d0-9819-00aa0040529b" // extended right
	ReceiveAs  = "ab721a56-1e2f-11d0-9819-00aa0040529b" // extended right
	Member     = "bf9679c0-0de6-11d0-a285-00aa003049e2" // attribute, and validated write
	Membership = "bc0ac240-79a9-11d0-9020-00c04fc2d4cf" // set of attributes with member
)

// SIDs that are no account.
const (
	PrincipalSelf = "S-1-5-10" // the object itself
	CreatorOwner  = "S-1-3-0"
)

const (
	controlDACLPresent = 0x4
	flagInheritOnly    = 0x8
	flagInherited      = 0x10

	kindAllowed       = 0
	kindDenied        = 1
	kindAllowedObject = 5
	kindDeniedObject  = 6

	hasObject          = 0x1
	hasInheritedObject = 0x2

	headerSize = 20
)

// Parse reads a self-relative descriptor. The error is ErrSyntax with the place.
func Parse(b []byte) (Descriptor, error) {
	var d Descriptor
	if len(b) < headerSize || len(b) > MaxSize || b[0] != 1 {
		return d, fmt.Errorf("%w: header of %d octets", ErrSyntax, len(b))
	}
	control := binary.LittleEndian.Uint16(b[2:])
	if at := binary.LittleEndian.Uint32(b[4:]); at != 0 {
		owner, _, err := sidAt(b, at)
		if err != nil {
			return d, err
		}
		d.Owner = owner
	}
	at := binary.LittleEndian.Uint32(b[16:])
	if control&controlDACLPresent == 0 || at == 0 {
		d.Open = control&controlDACLPresent != 0
		return d, nil
	}
	var err error
	d.Access, err = list(b, at)
	return d, err
}

// list reads the access list at an offset.
func list(b []byte, at uint32) ([]Entry, error) {
	octets, err := entriesAt(b, at)
	if err != nil {
		return nil, err
	}
	var all []Entry
	for i, o := range octets {
		e, ok, err := entry(o)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		if ok {
			all = append(all, e)
		}
	}
	return all, nil
}

// entriesAt cuts the access list at an offset into its entries.
func entriesAt(b []byte, at uint32) ([][]byte, error) {
	if int64(at)+8 > int64(len(b)) {
		return nil, fmt.Errorf("%w: list at octet %d", ErrSyntax, at)
	}
	head := b[at:]
	size, count := int(binary.LittleEndian.Uint16(head[2:])), int(binary.LittleEndian.Uint16(head[4:]))
	if size < 8 || size > len(head) || count > MaxEntries {
		return nil, fmt.Errorf("%w: list of %d octets with %d entries", ErrSyntax, size, count)
	}
	var all [][]byte
	rest := head[8:size]
	for i := range count {
		if len(rest) < 8 {
			return nil, fmt.Errorf("%w: entry %d is cut off", ErrSyntax, i)
		}
		n := int(binary.LittleEndian.Uint16(rest[2:]))
		if n < 8 || n > len(rest) {
			return nil, fmt.Errorf("%w: entry %d of %d octets", ErrSyntax, i, n)
		}
		all = append(all, rest[:n:n])
		rest = rest[n:]
	}
	return all, nil
}

// entry reads one entry, false for one of a kind that does not matter.
func entry(b []byte) (e Entry, ok bool, err error) {
	kind := b[0]
	e.InheritOnly, e.Inherited = b[1]&flagInheritOnly != 0, b[1]&flagInherited != 0
	e.Mask = Mask(binary.LittleEndian.Uint32(b[4:]))
	at := 8
	switch kind {
	case kindAllowed, kindDenied:
		e.Deny = kind == kindDenied
	case kindAllowedObject, kindDeniedObject:
		e.Deny = kind == kindDeniedObject
		if len(b) < 12 {
			return e, false, fmt.Errorf("%w: cut off", ErrSyntax)
		}
		flags := binary.LittleEndian.Uint32(b[8:])
		at = 12
		if flags&hasObject != 0 {
			if len(b) < at+16 {
				return e, false, fmt.Errorf("%w: cut off", ErrSyntax)
			}
			e.Object = guid([16]byte(b[at : at+16]))
			at += 16
		}
		if flags&hasInheritedObject != 0 {
			at += 16 // whom it is handed down to: an entry that does not apply here is InheritOnly
		}
	default:
		return e, false, nil
	}
	e.Trustee, _, err = sidAt(b, uint32(at))
	return e, err == nil, err
}

// sidAt reads the SID at an offset, and returns its length.
func sidAt(b []byte, at uint32) (text string, n int, err error) {
	if int64(at)+8 > int64(len(b)) {
		return "", 0, fmt.Errorf("%w: SID at octet %d", ErrSyntax, at)
	}
	raw := b[at:]
	n = 8 + 4*int(raw[1])
	if raw[0] != 1 || raw[1] > 15 || n > len(raw) {
		return "", 0, fmt.Errorf("%w: SID at octet %d", ErrSyntax, at)
	}
	authority := uint64(binary.BigEndian.Uint16(raw[2:]))<<32 | uint64(binary.BigEndian.Uint32(raw[4:]))
	text = "S-1-" + strconv.FormatUint(authority, 10)
	for i := 8; i < n; i += 4 {
		text += "-" + strconv.FormatUint(uint64(binary.LittleEndian.Uint32(raw[i:])), 10)
	}
	return text, n, nil
}

// guid is the text of a GUID, whose first three fields are little-endian.
func guid(raw [16]byte) string {
	h := make([]byte, 0, 36)
	for i, at := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			h = append(h, '-')
		}
		h = hex.AppendEncode(h, raw[at:at+1])
	}
	return string(h)
}

// Named returns the SIDs that are named for the extended right of a GUID, sorted. The
// object itself, which has such rights over itself, is not among them.
func (d Descriptor) Named(right string) []string {
	var all []string
	for _, e := range d.Access {
		switch {
		case e.InheritOnly || e.Mask&ControlAccess == 0:
		case e.Deny && (e.Object == "" || e.Object == right):
			slices.Sort(all)
			return slices.Compact(all)
		case !e.Deny && e.Object == right && e.Trustee != PrincipalSelf && e.Trustee != CreatorOwner:
			all = append(all, e.Trustee)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// MayChangeMembers returns the SIDs of those who may change the members of the group
// that d is of, or give themselves the right to, sorted: an owner may do the latter.
// What is denied to some of them is not taken off.
func (d Descriptor) MayChangeMembers() []string {
	all := []string{}
	if d.Owner != "" {
		all = append(all, d.Owner)
	}
	for _, e := range d.Access {
		ofMembers := e.Object == "" || e.Object == Member || e.Object == Membership
		switch {
		case e.Deny || e.InheritOnly:
		case e.Mask&(WriteDAC|WriteOwner|GenericAll|GenericWrite) != 0, e.Mask&(WriteProperty|Self) != 0 && ofMembers:
			all = append(all, e.Trustee)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// SelfWritable returns the GUIDs of the attributes and sets of attributes that the
// object may write in itself, sorted; "" among them stands for all.
func (d Descriptor) SelfWritable() []string {
	var all []string
	for _, e := range d.Access {
		if !e.Deny && !e.InheritOnly && e.Trustee == PrincipalSelf && e.Mask&(WriteProperty|GenericAll|GenericWrite) != 0 {
			all = append(all, e.Object)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
