package directory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"dirpost/internal/envelope"
)

// packVersion is the first octet of a packed entry. A field is added at the
// end, with the next number here, and Unpack goes on reading what is older.
const packVersion = 6

// errPacked reports octets that are no packed entry.
var errPacked = errors.New("damaged directory entry")

// Pack returns e in the form that the snapshot and the database keep. Equal
// entries give equal octets.
func (e *Entry) Pack() []byte { return []byte(e.pack()) }

func (e *Entry) pack() string {
	if e.packed != "" {
		return e.packed
	}
	p := make(packer, 0, 512)
	p = append(p, packVersion)
	p.str(string(e.Key))
	p = append(p, byte(e.Kind))
	p.str(e.Directory)
	p.str(e.DN)
	if n := NormalizeDN(e.DN); n != e.DN {
		p.str(n)
	} else {
		p.str("")
	}
	p.str(e.DisplayName)
	p.addr(e.Primary)
	p.addrs(e.Aliases)
	p.strs(e.Logins)
	p = append(p, byte(e.Login), byte(e.Delivery), byte(e.Policy), flag(e.KeepCopy)|flag(e.Hidden)<<1)
	p.num(unixNano(e.Expires))
	p.num(unixNano(e.Modified))
	p.num(e.Quota)
	p.num(e.QuotaSend)
	p.num(e.QuotaWarn)
	p.addrs(e.Forward)
	p.str(e.NextHop)
	p.strs(e.Services)
	p.addrs(e.ExternalMembers)
	p.strs(e.Owners)
	p.strs(e.Senders)
	p.strs(e.Access)
	p.strs(e.SendAs)
	p.strs(e.OnBehalf)
	p.strs(e.Domains)
	p.strs(e.Members)
	p.version2(e)
	p.version3(e)
	p.version4(e)
	p.strs(e.Certificates) // version 5
	p.version6(e)
	return string(p)
}

// version2 appends what version 2 has added.
func (p *packer) version2(e *Entry) {
	p.str(e.SID)
	p.str(e.PrimaryGroup)
	p.strs(e.X500)
	*p = append(*p, byte(e.Place))
	p.strs(e.Moderators)
	p.strs(e.Barred)
	p.strs(e.MemberLogins)
	p.strs(e.Queries)
	p.strs(e.Facts)
	p.num(e.MaxReceive)
	p.num(e.MaxSend)
	p.len(len(e.Former))
	for _, f := range e.Former {
		p.addr(f.Address)
		p.num(unixNano(f.Until))
	}
	p.len(len(e.Claims))
	for _, c := range e.Claims {
		p.addr(c.Address)
		p.num(unixNano(c.Since))
	}
	p.num(unixNano(e.Gone))
	p.strs(e.Unreadable)
	p.strs(e.Origins)
}

// version3 appends what version 3 has added.
func (p *packer) version3(e *Entry) { p.strs(e.ForwardTo) }

// version4 appends when each former address was lost, in the order of version 2.
func (p *packer) version4(e *Entry) {
	for _, f := range e.Former {
		p.num(unixNano(f.Lost))
	}
}

// version6 appends what version 6 has added.
func (p *packer) version6(e *Entry) {
	*p = append(*p, flag(e.NoStrangers))
	p.strs(e.Allowed)
}

// Unpack is the reverse of Pack.
func Unpack(b []byte) (*Entry, error) { return unpack(string(b)) }

// unpack reads a packed entry. Its strings share the memory of s, so that a
// look-up copies nothing.
func unpack(s string) (*Entry, error) {
	if s == "" || s[0] == 0 || s[0] > packVersion {
		return nil, fmt.Errorf("%w: unknown version", errPacked)
	}
	u := unpacker{s: s[1:]}
	e := &Entry{packed: s}
	e.Key = Key(u.str())
	e.Kind = Kind(u.octet())
	e.Directory = u.str()
	e.DN = u.str()
	u.str() // the normal form of DN, see normalDN
	e.DisplayName = u.str()
	e.Primary = u.addr()
	e.Aliases = u.addrs()
	e.Logins = u.strs()
	e.Login = State(u.octet())
	e.Delivery = State(u.octet())
	e.Policy = ListPolicy(u.octet())
	flags := u.octet()
	e.KeepCopy, e.Hidden = flags&1 != 0, flags&2 != 0
	e.Expires = fromUnixNano(u.num())
	e.Modified = fromUnixNano(u.num())
	e.Quota = u.num()
	e.QuotaSend = u.num()
	e.QuotaWarn = u.num()
	e.Forward = u.addrs()
	e.NextHop = u.str()
	e.Services = u.strs()
	e.ExternalMembers = u.addrs()
	e.Owners = u.strs()
	e.Senders = u.strs()
	e.Access = u.strs()
	e.SendAs = u.strs()
	e.OnBehalf = u.strs()
	e.Domains = u.strs()
	e.Members = u.strs()
	if s[0] >= 2 {
		u.version2(e)
	}
	if s[0] >= 3 {
		e.ForwardTo = u.strs()
	}
	if s[0] >= 4 {
		for i := range e.Former {
			e.Former[i].Lost = fromUnixNano(u.num())
		}
	}
	if s[0] >= 5 {
		e.Certificates = u.strs()
	}
	if s[0] >= 6 {
		e.NoStrangers = u.octet()&1 != 0
		e.Allowed = u.strs()
	}
	if u.bad || u.s != "" || e.Key == "" {
		return nil, errPacked
	}
	return e, nil
}

// version2 reads what version 2 has added.
func (u *unpacker) version2(e *Entry) {
	e.SID = u.str()
	e.PrimaryGroup = u.str()
	e.X500 = u.strs()
	e.Place = Place(u.octet())
	e.Moderators = u.strs()
	e.Barred = u.strs()
	e.MemberLogins = u.strs()
	e.Queries = u.strs()
	e.Facts = u.strs()
	e.MaxReceive = u.num()
	e.MaxSend = u.num()
	if n := u.count(3); n > 0 {
		e.Former = make([]Former, n)
		for i := range e.Former {
			e.Former[i] = Former{Address: u.addr(), Until: fromUnixNano(u.num())}
		}
	}
	if n := u.count(3); n > 0 {
		e.Claims = make([]Claim, n)
		for i := range e.Claims {
			e.Claims[i] = Claim{u.addr(), fromUnixNano(u.num())}
		}
	}
	e.Gone = fromUnixNano(u.num())
	e.Unreadable = u.strs()
	e.Origins = u.strs()
}

// packedKey returns the key alone, from a packed entry that has been read
// before.
func packedKey(s string) Key {
	u := unpacker{s: s[1:]}
	return Key(u.str())
}

// normalDN returns the DN by NormalizeDN without computing it again.
func (e *Entry) normalDN() string {
	if e.packed == "" {
		return NormalizeDN(e.DN)
	}
	u := unpacker{s: e.packed[1:]}
	u.str()
	u.octet()
	u.str()
	dn := u.str()
	if n := u.str(); n != "" {
		return n
	}
	return dn
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// unixNano gives 0 for no time at all; years out of reach of 64 bits do not
// come from directories that mean it, and count as none.
func unixNano(t time.Time) int64 {
	if t.IsZero() || t.Year() < 1678 || t.Year() > 2261 {
		return 0
	}
	if n := t.UnixNano(); n != 0 {
		return n
	}
	return 1 // midnight of 1970, which administrators do write
}

func fromUnixNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// packer appends values to a packed entry.
type packer []byte

func (p *packer) num(n int64) { *p = binary.AppendVarint(*p, n) }

func (p *packer) len(n int) { *p = binary.AppendUvarint(*p, uint64(n)) }

func (p *packer) str(s string) {
	p.len(len(s))
	*p = append(*p, s...)
}

func (p *packer) strs(list []string) {
	p.len(len(list))
	for _, s := range list {
		p.str(s)
	}
}

func (p *packer) addr(a envelope.Address) {
	p.str(a.Local)
	p.str(a.Domain)
}

func (p *packer) addrs(list []envelope.Address) {
	p.len(len(list))
	for _, a := range list {
		p.addr(a)
	}
}

// unpacker takes values from the front of s. After the first value that is not
// there bad is set and everything reads as zero.
type unpacker struct {
	s   string
	bad bool
}

func (u *unpacker) octet() byte {
	if u.s == "" {
		u.bad = true
		return 0
	}
	c := u.s[0]
	u.s = u.s[1:]
	return c
}

func (u *unpacker) unum() uint64 {
	var n uint64
	for shift := uint(0); shift < 64; shift += 7 {
		c := u.octet()
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return n
		}
	}
	u.bad = true
	return 0
}

func (u *unpacker) num() int64 {
	n := u.unum()
	return int64(n>>1) ^ -int64(n&1)
}

func (u *unpacker) str() string {
	n := u.unum()
	if n > uint64(len(u.s)) {
		u.bad, u.s = true, ""
		return ""
	}
	s := u.s[:n]
	u.s = u.s[n:]
	return s
}

// count reads the length of a list whose items take at least size octets.
func (u *unpacker) count(size int) int {
	n := u.unum()
	if n > uint64(len(u.s)/size) {
		u.bad, u.s = true, ""
		return 0
	}
	return int(n)
}

func (u *unpacker) strs() []string {
	n := u.count(1)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = u.str()
	}
	return list
}

func (u *unpacker) addr() envelope.Address {
	return envelope.Address{Local: u.str(), Domain: u.str()}
}

func (u *unpacker) addrs() []envelope.Address {
	n := u.count(2)
	if n == 0 {
		return nil
	}
	list := make([]envelope.Address, n)
	for i := range list {
		list[i] = u.addr()
	}
	return list
}
