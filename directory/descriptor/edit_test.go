package descriptor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

const readAll = ListChildren | ReadProperty | ReadControl

// TestGrant: an account gets an entry of its own behind those of the object, nothing
// else is touched, and it goes again without a trace.
func TestGrant(t *testing.T) {
	t.Parallel()
	others := []Entry{
		{Deny: true, Mask: WriteProperty, Trustee: bob},
		{Mask: GenericAll, Trustee: desk},
		{Mask: ControlAccess, Object: SendAs, Trustee: alice},
		{Mask: ReadProperty, Trustee: "S-1-5-11", Inherited: true},
	}
	before := made(desk, others...)
	binary.LittleEndian.PutUint16(before[2:], binary.LittleEndian.Uint16(before[2:])|controlDACLProtected|0x10) // and one that is audited
	after, ok, err := Grant(before, rawSID(alice), readAll)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	d, err := Parse(after)
	want := slices.Insert(slices.Clone(others), 3, Entry{Mask: readAll, Trustee: alice})
	if err != nil || d.Owner != "" || !slices.Equal(d.Access, want) {
		t.Errorf("%v %+v", err, d)
	}
	if got, want := binary.LittleEndian.Uint16(after[2:]), uint16(controlSelfRelative|controlDACLPresent|controlDACLProtected); got != want {
		t.Errorf("control %#x, want %#x", got, want)
	}
	if !d.Allows(alice, readAll) || d.Allows(bob, ReadProperty) || d.Allows(alice, WriteDAC) {
		t.Errorf("%+v", d)
	}
	if _, ok, err := Grant(after, rawSID(alice), ReadProperty|ListChildren); ok || err != nil {
		t.Errorf("what it has already: %v %v", ok, err)
	}

	again, ok, err := Revoke(after, rawSID(alice), readAll)
	if err != nil || !ok || !bytes.Equal(again[headerSize:], before[headerSize+len(rawSID(desk)):]) {
		t.Errorf("revoked: %v %v\n%x\n%x", ok, err, again, before)
	}
	if _, ok, err := Revoke(again, rawSID(alice), readAll); ok || err != nil {
		t.Errorf("what it has not: %v %v", ok, err)
	}
	if _, ok, err := Revoke(before, rawSID(desk), readAll); ok || err != nil {
		t.Errorf("an entry that allows more, somebody else has made it: %v %v", ok, err)
	}
}

func TestGrantRefused(t *testing.T) {
	t.Parallel()
	if _, _, err := Grant(made("", Entry{Deny: true, Mask: ListChildren, Trustee: alice}), rawSID(alice), readAll); !errors.Is(err, ErrDenied) {
		t.Errorf("denied: %v", err)
	}
	open := made("")
	binary.LittleEndian.PutUint32(open[16:], 0)
	if _, ok, err := Grant(open[:headerSize], rawSID(alice), readAll); ok || err != nil {
		t.Errorf("everybody may do everything: %v %v", ok, err)
	}
	binary.LittleEndian.PutUint16(open[2:], controlSelfRelative)
	if _, _, err := Grant(open[:headerSize], rawSID(alice), readAll); !errors.Is(err, ErrSyntax) {
		t.Errorf("a descriptor without the list: %v", err)
	}
	if _, _, err := Grant(made(""), rawSID(alice)[:9], readAll); !errors.Is(err, ErrSyntax) {
		t.Errorf("half a SID: %v", err)
	}
	var many []Entry
	for range (1<<16 - 1 - 8) / 20 {
		many = append(many, Entry{Mask: GenericAll, Trustee: "S-1-1-0"})
	}
	if _, _, err := Grant(made("", many...), rawSID(alice), readAll); err == nil || errors.Is(err, ErrSyntax) {
		t.Errorf("a list that is full: %v", err)
	}
}

func TestOwnedByAdministrators(t *testing.T) {
	t.Parallel()
	if d, err := Parse(OwnedByAdministrators()); err != nil || d.Owner != "S-1-5-32-544" || d.Access != nil || d.Open {
		t.Errorf("%v %+v", err, d)
	}
}

// FuzzGrant: whatever a server says, what is written is a descriptor with everything
// that was there, and one entry more.
func FuzzGrant(f *testing.F) {
	sid := rawSID(alice)
	f.Add(made(desk, Entry{Mask: GenericAll, Trustee: desk}, Entry{Mask: ReadProperty, Trustee: bob, Inherited: true}))
	f.Add(made("", Entry{Deny: true, Mask: ControlAccess, Object: SendAs, Trustee: bob}))
	f.Add(made("", Entry{Mask: readAll, Trustee: alice}))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		after, ok, err := Grant(b, sid, readAll)
		if !bytes.Equal(before, b) {
			t.Fatal("the argument was changed")
		}
		if err != nil || !ok {
			return
		}
		was, _ := Parse(b)
		is, err := Parse(after)
		if err != nil {
			t.Fatal(err)
		}
		if !is.Allows(alice, readAll) || len(is.Access) != len(was.Access)+1 {
			t.Fatalf("%+v\n%+v", was, is)
		}
		again, ok, err := Revoke(after, sid, readAll)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if less, err := Parse(again); err != nil || len(less.Access) > len(was.Access) || less.Allows(alice, readAll) {
			t.Fatalf("%v %+v", err, less)
		}
	})
}
