package descriptor

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// made is a descriptor of these entries, as a server writes it.
func made(owner string, entries ...Entry) []byte {
	acl := []byte{4, 0, 0, 0, byte(len(entries)), byte(len(entries) >> 8), 0, 0}
	for _, e := range entries {
		body := binary.LittleEndian.AppendUint32(nil, uint32(e.Mask))
		kind := byte(kindAllowed)
		if e.Object != "" {
			kind = kindAllowedObject
			body = binary.LittleEndian.AppendUint32(body, hasObject)
			body = append(body, rawGUID(e.Object)...)
		}
		if e.Deny {
			kind++
		}
		flags := byte(0)
		if e.InheritOnly {
			flags |= flagInheritOnly
		}
		if e.Inherited {
			flags |= flagInherited
		}
		body = append(body, rawSID(e.Trustee)...)
		n := 4 + len(body)
		acl = append(acl, kind, flags, byte(n), byte(n>>8))
		acl = append(acl, body...)
	}
	binary.LittleEndian.PutUint16(acl[2:], uint16(len(acl)))
	b := make([]byte, headerSize)
	b[0] = 1
	binary.LittleEndian.PutUint16(b[2:], 0x8000|controlDACLPresent)
	if owner != "" {
		binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
		b = append(b, rawSID(owner)...)
	}
	binary.LittleEndian.PutUint32(b[16:], uint32(len(b)))
	return append(b, acl...)
}

func rawSID(text string) []byte {
	parts := strings.Split(text, "-")[2:]
	b := []byte{1, byte(len(parts) - 1), 0, 0}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			panic(err)
		}
		if i == 0 {
			b = binary.BigEndian.AppendUint32(b, uint32(n))
		} else {
			b = binary.LittleEndian.AppendUint32(b, uint32(n))
		}
	}
	return b
}

func rawGUID(text string) []byte {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil {
		panic(err)
	}
	slices.Reverse(raw[:4])
	slices.Reverse(raw[4:6])
	slices.Reverse(raw[6:8])
	return raw
}

const (
	alice = "S-1-5-21-1-2-3-1104"
	bob   = "S-1-5-21-1-2-3-1105"
	desk  = "S-1-5-21-1-2-3-1200"
)

func TestParse(t *testing.T) {
	t.Parallel()
	want := []Entry{
		{Deny: true, Mask: ControlAccess, Object: SendAs, Trustee: bob},
		{Mask: ControlAccess, Object: ReceiveAs, Trustee: alice},
		{Mask: GenericAll, Trustee: desk, Inherited: true},
		{Mask: ReadProperty, Trustee: "S-1-5-11", InheritOnly: true},
	}
	d, err := Parse(made(alice, want...))
	if err != nil || d.Owner != alice || !slices.Equal(d.Access, want) || d.Open {
		t.Errorf("%v %+v", err, d)
	}
	none := made("")
	binary.LittleEndian.PutUint32(none[16:], 0)
	if d, err := Parse(none[:headerSize]); err != nil || !d.Open {
		t.Errorf("no list: %v %+v", err, d)
	}
	binary.LittleEndian.PutUint16(none[2:], 0)
	if d, err := Parse(none[:headerSize]); err != nil || d.Open {
		t.Errorf("not asked for: %v %+v", err, d)
	}
	whole := made(alice, want...)
	for n := range whole {
		if _, err := Parse(whole[:n]); !errors.Is(err, ErrSyntax) {
			t.Errorf("cut off after %d octets: %v", n, err)
		}
	}
}

func TestNamed(t *testing.T) {
	t.Parallel()
	sendAs := func(who string) Entry { return Entry{Mask: ControlAccess, Object: SendAs, Trustee: who} }
	for _, tt := range []struct {
		name    string
		entries []Entry
		want    string
	}{
		{"named", []Entry{sendAs(bob), sendAs(alice), sendAs(bob)}, alice + " " + bob},
		{"oneself", []Entry{sendAs(PrincipalSelf), sendAs(CreatorOwner)}, ""},
		{"another right", []Entry{{Mask: ControlAccess, Object: ReceiveAs, Trustee: bob}}, ""},
		{"all rights, as administrators have them", []Entry{{Mask: GenericAll, Trustee: bob}, {Mask: ControlAccess, Trustee: bob}}, ""},
		{"for those below", []Entry{{Mask: ControlAccess, Object: SendAs, Trustee: bob, InheritOnly: true}}, ""},
		{"from above", []Entry{{Mask: ControlAccess, Object: SendAs, Trustee: bob, Inherited: true}}, bob},
		{"denied before", []Entry{{Deny: true, Mask: ControlAccess, Object: SendAs, Trustee: desk}, sendAs(bob)}, ""},
		{"all extended rights denied before", []Entry{{Deny: true, Mask: ControlAccess, Trustee: desk}, sendAs(bob)}, ""},
		{"denied behind, by a container", []Entry{sendAs(bob), {Deny: true, Mask: ControlAccess, Object: SendAs, Trustee: desk, Inherited: true}, sendAs(alice)}, bob},
		{"another right denied", []Entry{{Deny: true, Mask: ControlAccess, Object: "ab721a53-1e2f-11d0-9819-00aa0040529b", Trustee: "S-1-1-0"}, sendAs(bob)}, bob},
	} {
		d, err := Parse(made("", tt.entries...))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(d.Named(SendAs), " "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestMayChangeMembers(t *testing.T) {
	t.Parallel()
	d, err := Parse(made("S-1-5-21-1-2-3-512",
		Entry{Mask: WriteProperty, Object: Member, Trustee: alice},
		Entry{Mask: WriteProperty, Object: Membership, Trustee: bob},
		Entry{Mask: WriteProperty, Object: "bf967a00-0de6-11d0-a285-00aa003049e2", Trustee: "S-1-5-21-1-2-3-1"},
		Entry{Mask: Self, Object: Member, Trustee: "S-1-5-11"},
		Entry{Mask: WriteDAC, Trustee: desk},
		Entry{Mask: ReadProperty | ControlAccess, Trustee: "S-1-5-21-1-2-3-2"},
		Entry{Mask: GenericAll, Trustee: "S-1-5-21-1-2-3-3", InheritOnly: true},
		Entry{Deny: true, Mask: WriteProperty, Trustee: "S-1-5-21-1-2-3-4"},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"S-1-5-11", alice, bob, desk, "S-1-5-21-1-2-3-512"}
	if got := d.MayChangeMembers(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSelfWritable(t *testing.T) {
	t.Parallel()
	const personal = "77b5b886-944a-11d1-aebd-0000f80367c1"
	d, err := Parse(made("",
		Entry{Mask: ReadProperty | WriteProperty, Object: personal, Trustee: PrincipalSelf},
		Entry{Mask: WriteProperty, Object: Member, Trustee: alice},
		Entry{Mask: ReadProperty, Trustee: PrincipalSelf},
	))
	if err != nil || !slices.Equal(d.SelfWritable(), []string{personal}) {
		t.Errorf("%v %q", err, d.SelfWritable())
	}
}

// FuzzParse: no octets make it panic or read beyond, and what it reads is within
// its limits.
func FuzzParse(f *testing.F) {
	f.Add(made(alice, Entry{Mask: ControlAccess, Object: SendAs, Trustee: bob}))
	f.Add(made("", Entry{Deny: true, Mask: GenericAll, Trustee: desk}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err != nil && !errors.Is(err, ErrSyntax) {
			t.Fatal(err)
		}
		if len(d.Access) > MaxEntries {
			t.Fatalf("%d entries", len(d.Access))
		}
		for _, e := range d.Access {
			if e.Object != "" && len(e.Object) != 36 || !strings.HasPrefix(e.Trustee, "S-1-") {
				t.Fatalf("%+v", e)
			}
		}
		d.Named(SendAs)
		d.MayChangeMembers()
	})
}
