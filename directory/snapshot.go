package directory

import (
	"cmp"
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"dirpost/internal/envelope"
)

// Snapshot is the directory at one moment. It is immutable: safe for any
// number of readers, and a look-up never blocks and does no I/O.
//
// It is a copy-on-write table of 256 × 256 small shards: the next snapshot
// shares all but the shards that a change touches, so a change costs the same
// in a directory of any size. Entries are kept packed, one string each, and
// unpacked at look-up without copying: a million of them are a million objects
// to the garbage collector and not fifty million.
type Snapshot struct {
	rules    *Rules
	policies *policies // of rules, nil for none
	version  int64
	ready    bool
	fresh    *freshness // nil: never stale
	seed     maphash.Seed
	shards   *[256]*[256]shard
	recent   *recent // shared with the snapshots before and after
	count    int

	confirmed Confirmed // domains that may take mail, with Rules.Confirm
	placement string    // of the rules

	domains   map[string]struct{}    // of the rules and of domain objects
	domainsOf map[Key][]string       // what each domain object adds
	primaries map[string]int         // SID -> how many entries have it as their primary group
	dynamic   []*dynamic             // groups defined by queries, by key
	found     *findings              // who is in them, as far as somebody has asked
	tally     map[string]Tally       // by directory
	contested [2]map[string]struct{} // addresses, and login names, of more than one entry
	doubts    int64                  // version in which that changed last
}

// index says by which of its names an entry is found.
type index byte

const (
	byKey         index = iota
	byDN                // normal form
	byAddress           // envelope.Address.Key
	byLogin             // FoldLogin
	byMember            // DN of a member, SID of a foreign one, MailName of an external one -> its groups
	byAccess            // DN, or SID of a foreign one -> mailboxes that it may open
	bySID               // objectSid
	byX500              // FoldX500
	byMemberLogin       // FoldLogin of a member -> its groups
	byPrimary           // primaryName
	byReference         // DN -> entries that name it in another way
	byFormer            // envelope.Address.Key, of what an entry had, and of who has left
	byCertificate       // CertificateNames
)

// shard is a part of the table, sorted by hash.
type shard []slot

type slot struct {
	hash uint32
	node *node
}

type node struct{ packed string }

// recent are entries that were unpacked last, by hash: a message asks for the same
// people several times, at RCPT, to plan it and to log it. What an entry says is in
// what it was unpacked from, so that nothing here can be out of date.
type recent [256]atomic.Pointer[Entry]

// maxRecent is the most that a packed entry has which is kept unpacked, in octets:
// 256 large groups would be much memory for little.
const maxRecent = 4 << 10

// entry unpacks what is in a slot. Others may have the same one: nobody writes to it.
func (s *Snapshot) entry(c slot) *Entry {
	place := &s.recent[byte(c.hash)]
	if e := place.Load(); e != nil && e.packed == c.node.packed {
		return e
	}
	e := mustUnpack(c.node.packed)
	if len(e.packed) <= maxRecent {
		place.Store(e)
	}
	return e
}

// NewSnapshot returns a snapshot of these entries for our domains, with the
// default rules. It is complete and never grows stale.
func NewSnapshot(domains []string, entries []*Entry) *Snapshot {
	return SnapshotOf(Rules{Domains: domains, Delimiter: "+"}, entries)
}

// SnapshotOf returns a snapshot of these entries by rules. It is complete and never
// grows stale.
func SnapshotOf(rules Rules, entries []*Entry) *Snapshot {
	rules = rules.withDefaults()
	changes := make([]Change, len(entries))
	for i, e := range entries {
		changes[i] = Change{Key: e.Key, Entry: e}
	}
	return newSnapshot(&rules).with(1, changes)
}

// newSnapshot returns an empty snapshot that is not ready.
func newSnapshot(rules *Rules) *Snapshot {
	s := &Snapshot{
		rules:     rules,
		policies:  compilePolicies(rules.Policies),
		seed:      maphash.MakeSeed(),
		shards:    new([256]*[256]shard),
		recent:    new(recent),
		domainsOf: map[Key][]string{},
		primaries: map[string]int{},
		found:     &findings{},
		placement: rules.Placement(),
		tally:     map[string]Tally{},
	}
	s.setDomains()
	return s
}

func (s *Snapshot) setDomains() {
	s.domains = make(map[string]struct{}, len(s.rules.Domains))
	for _, d := range s.rules.Domains {
		if c, err := envelope.ParseDomain(d); err == nil {
			s.domains[c] = struct{}{}
		}
	}
	for _, list := range s.domainsOf {
		for _, d := range list {
			s.domains[d] = struct{}{}
		}
	}
}

// with returns the snapshot of version that follows s by changes. Later
// changes of one key win.
func (s *Snapshot) with(version int64, changes []Change) *Snapshot {
	next := *s
	next.version = version
	next.ready = true
	next.tally = maps.Clone(s.tally)
	b := builder{s: &next}
	shards := *s.shards
	next.shards = &shards
	keys := make([]Key, len(changes))
	for i, c := range changes {
		b.apply(c)
		keys[i] = c.Key
	}
	next.found = s.found.after(keys)
	if b.domains {
		next.setDomains()
	}
	b.contest()
	return &next
}

// builder makes the next snapshot. It copies each shard, and each row of
// shards, at most once however many changes there are.
type builder struct {
	s       *Snapshot
	rows    [256]bool
	own     [65536 / 64]uint64 // bit per shard
	domains bool               // domain objects have changed

	ownPrimaries bool        // primaries has been copied
	doubt        [2][]string // addresses and login names that more than one entry may have now
}

func (b *builder) apply(c Change) {
	var packed string
	if c.Entry != nil {
		packed = c.Entry.pack()
	}
	if old, ok := b.s.find(byKey, string(c.Key)); ok {
		if old.packed == packed {
			return
		}
		e := mustUnpack(old.packed)
		for i, name := range e.names() {
			b.remove(b.s.hash(i, name), old)
			b.question(i, name, 1)
		}
		b.count(e, -1)
		b.setDomainsOf(e.Key, nil)
		if !e.IsGone() {
			b.countPrimary(e.PrimaryGroup, -1)
		}
		if len(e.Queries) > 0 {
			b.setDynamic(e.Key, nil)
		}
	}
	if packed == "" {
		return
	}
	n := &node{packed}
	e := mustUnpack(packed)
	for i, name := range e.names() {
		b.insert(b.s.hash(i, name), n)
		b.question(i, name, 2)
	}
	b.count(e, 1)
	if e.Kind == KindDomain {
		b.setDomainsOf(e.Key, e.Domains)
	}
	if !e.IsGone() {
		b.countPrimary(e.PrimaryGroup, 1)
	}
	if len(e.Queries) > 0 {
		b.setDynamic(e.Key, e)
	}
}

func (b *builder) setDomainsOf(key Key, list []string) {
	if len(list) == 0 && len(b.s.domainsOf[key]) == 0 {
		return
	}
	b.s.domainsOf = maps.Clone(b.s.domainsOf)
	if len(list) == 0 {
		delete(b.s.domainsOf, key)
	} else {
		b.s.domainsOf[key] = list
	}
	b.domains = true
}

// shard returns the shard of h for writing.
func (b *builder) shard(h uint64) *shard {
	i, j := byte(h>>56), byte(h>>48)
	if !b.rows[i] {
		row := new([256]shard)
		if old := b.s.shards[i]; old != nil {
			*row = *old
		}
		b.s.shards[i] = row
		b.rows[i] = true
	}
	sh := &b.s.shards[i][j]
	bit := uint(i)<<8 | uint(j)
	if b.own[bit/64]&(1<<(bit%64)) == 0 {
		b.own[bit/64] |= 1 << (bit % 64)
		*sh = slices.Clone(*sh)
	}
	return sh
}

func (b *builder) insert(h uint64, n *node) {
	sh := b.shard(h)
	at := sh.search(uint32(h))
	for at < len(*sh) && (*sh)[at].hash == uint32(h) {
		if (*sh)[at].node == n { // the entry has the same name twice
			return
		}
		at++
	}
	*sh = slices.Insert(*sh, at, slot{uint32(h), n})
}

func (b *builder) remove(h uint64, n *node) {
	sh := b.shard(h)
	for at := sh.search(uint32(h)); at < len(*sh) && (*sh)[at].hash == uint32(h); at++ {
		if (*sh)[at].node == n {
			*sh = slices.Delete(*sh, at, at+1)
			return
		}
	}
}

// search returns the first slot with a hash of at least h.
func (sh shard) search(h uint32) int {
	i, _ := slices.BinarySearchFunc(sh, h, func(s slot, h uint32) int { return cmp.Compare(s.hash, h) })
	return i
}

// names yields everything under which e is found. Who has left the directory is
// found by key, and by the addresses that nobody else has now.
func (e *Entry) names() iter.Seq2[index, string] {
	return func(yield func(index, string) bool) {
		if !yield(byKey, string(e.Key)) {
			return
		}
		for _, f := range e.Former {
			if !yield(byFormer, f.Address.Key()) {
				return
			}
		}
		if e.IsGone() {
			for a := range e.addresses() {
				if !yield(byFormer, a.Key()) {
					return
				}
			}
			return
		}
		if dn := e.normalDN(); dn != "" && !yield(byDN, dn) {
			return
		}
		if !e.Primary.IsZero() && !yield(byAddress, e.Primary.Key()) {
			return
		}
		for _, a := range e.Aliases {
			if !yield(byAddress, a.Key()) {
				return
			}
		}
		if e.SID != "" && !yield(bySID, e.SID) {
			return
		}
		if e.PrimaryGroup != "" && !yield(byPrimary, primaryName(e.PrimaryGroup, primaryBucket(e.Key))) {
			return
		}
		for _, a := range e.ExternalMembers {
			if !yield(byMember, MailName(a)) {
				return
			}
		}
		for _, list := range [...]struct {
			index index
			names []string
		}{{byLogin, e.Logins}, {byMember, e.Members}, {byAccess, e.Access}, {byX500, e.X500}, {byMemberLogin, e.MemberLogins}, {byCertificate, e.Certificates}} {
			for _, name := range list.names {
				if !yield(list.index, name) {
					return
				}
				if sid := foreignSID(name); sid != "" && !yield(list.index, sid) {
					return
				}
			}
		}
		for dn := range e.references() {
			if !yield(byReference, dn) {
				return
			}
		}
	}
}

// has reports whether e is found under name in an index.
func (e *Entry) has(i index, name string) bool {
	if e.IsGone() && i != byKey && i != byFormer {
		return false
	}
	switch i {
	case byKey:
		return string(e.Key) == name
	case byDN:
		return e.normalDN() == name
	case byAddress:
		return e.hasAddress(name)
	case byFormer:
		return e.IsGone() && e.hasAddress(name) || slices.ContainsFunc(e.Former, func(f Former) bool { return f.Address.Key() == name })
	case byLogin:
		return slices.Contains(e.Logins, name)
	case byMember:
		if address, ok := strings.CutPrefix(name, mailScheme); ok {
			return slices.ContainsFunc(e.ExternalMembers, func(a envelope.Address) bool { return a.Key() == address })
		}
		return names(e.Members, name)
	case byMemberLogin:
		return slices.Contains(e.MemberLogins, name)
	case byPrimary:
		return e.PrimaryGroup != "" && primaryName(e.PrimaryGroup, primaryBucket(e.Key)) == name
	case bySID:
		return e.SID == name
	case byX500:
		return slices.Contains(e.X500, name)
	case byCertificate:
		return slices.Contains(e.Certificates, name)
	case byReference:
		for dn := range e.references() {
			if dn == name {
				return true
			}
		}
		return false
	default:
		return names(e.Access, name)
	}
}

// names reports whether a list of DNs has one, or that of a foreign SID.
func names(dns []string, name string) bool {
	if strings.HasPrefix(name, "S-1-") {
		return slices.ContainsFunc(dns, func(dn string) bool { return foreignSID(dn) == name })
	}
	return slices.Contains(dns, name)
}

// hash mixes the index into the hash of a name.
func (s *Snapshot) hash(i index, name string) uint64 {
	h := maphash.String(s.seed, name) ^ uint64(i)*0x9e3779b97f4a7c15
	h ^= h >> 32
	return h * 0xd6e8feb86659fd93
}

// candidates returns the slots whose hash is that of name.
func (s *Snapshot) candidates(i index, name string) []slot {
	h := s.hash(i, name)
	row := s.shards[byte(h>>56)]
	if row == nil {
		return nil
	}
	sh := row[byte(h>>48)]
	from := sh.search(uint32(h))
	to := from
	for to < len(sh) && sh[to].hash == uint32(h) {
		to++
	}
	return sh[from:to]
}

// find returns the first node under name, without unpacking more than its key
// where that is what is asked for.
func (s *Snapshot) find(i index, name string) (*node, bool) {
	for _, c := range s.candidates(i, name) {
		if i == byKey {
			if string(packedKey(c.node.packed)) == name {
				return c.node, true
			}
		} else if mustUnpack(c.node.packed).has(i, name) {
			return c.node, true
		}
	}
	return nil, false
}

// all returns every entry under name.
func (s *Snapshot) all(i index, name string) []*Entry {
	var found []*Entry
	for _, c := range s.candidates(i, name) {
		if e := s.entry(c); e.has(i, name) {
			found = append(found, e)
		}
	}
	return found
}

// first returns the entry under a name with a domain, of the directory that comes
// first for it; nil when there is none or more than one.
func (s *Snapshot) first(i index, name string) *Entry {
	if len(s.rules.Directories) == 0 {
		return s.only(i, name)
	}
	if all := s.preferred(s.all(i, name), domainOf(name)); len(all) == 1 {
		return all[0]
	}
	return nil
}

// only returns the entry under name, nil when there is none or more than one.
func (s *Snapshot) only(i index, name string) *Entry {
	var found *Entry
	for _, c := range s.candidates(i, name) {
		if e := s.entry(c); e.has(i, name) {
			if found != nil {
				return nil
			}
			found = e
		}
	}
	return found
}

// mustUnpack reads what was packed by this process or read by Unpack before.
func mustUnpack(packed string) *Entry {
	e, err := unpack(packed)
	if err != nil {
		panic("the snapshot holds an entry that does not unpack")
	}
	return e
}

// Version is the version of the last change in s. Versions rise.
func (s *Snapshot) Version() int64 { return s.version }

// Len returns the number of entries, those of people who have left among them.
func (s *Snapshot) Len() int { return s.count }

// Ready reports whether a directory was loaded at all. Before that every
// address of ours is HomeUnknown.
func (s *Snapshot) Ready() bool { return s.ready }

// ByKey returns the entry with key, nil when there is none. It may be that of
// somebody who has left (Entry.IsGone).
func (s *Snapshot) ByKey(key Key) *Entry { return s.only(byKey, string(key)) }

// ByDN returns the entry with a DN in any spelling, nil when there is none.
func (s *Snapshot) ByDN(dn string) *Entry { return s.only(byDN, NormalizeDN(dn)) }

// ByAddress returns the entry that owns an address exactly, without
// subaddressing. It is nil when nobody owns it, or it cannot be told whose it is.
// An address of a role belongs to whom the rules name.
func (s *Snapshot) ByAddress(a envelope.Address) *Entry {
	e, _ := s.owner(a)
	return e
}

// Owners returns all entries that claim an address. More than one is a mistake
// in the directory.
func (s *Snapshot) Owners(a envelope.Address) []*Entry { return s.all(byAddress, a.Key()) }

// ByLogin returns the entry that logs in as name, in any spelling. It is nil
// when nobody does, or when the name belongs to more than one. A name with a domain
// that entries of several directories have is that of the directory which comes
// first for it: mail and login agree.
//
// What no entry has as it was typed is looked for as people write it who know
// Windows: DOMAIN/user and user@DOMAIN for DOMAIN\user, with the name of the domain
// in DNS too.
func (s *Snapshot) ByLogin(name string) *Entry {
	if name = FoldLogin(name); name == "" {
		return nil
	}
	if e, any := s.byLogin(name); any {
		return e
	}
	if name = otherSpelling(name); name == "" {
		return nil
	}
	e, _ := s.byLogin(name)
	return e
}

// byLogin returns the one entry of a folded name, and whether any entry has it.
func (s *Snapshot) byLogin(name string) (e *Entry, any bool) {
	all := s.all(byLogin, name)
	any = len(all) > 0
	if len(all) > 1 && len(s.rules.Directories) > 0 && strings.IndexByte(name, '@') >= 0 {
		all = s.preferred(all, domainOf(name))
	}
	if len(all) == 1 {
		e = all[0]
	}
	return e, any
}

// BySID returns the entry with a security identifier, as S-1-5-21-…, nil when
// there is none or more than one.
func (s *Snapshot) BySID(sid string) *Entry {
	if sid == "" {
		return nil
	}
	return s.only(bySID, sid)
}

// ByX500 returns the entry that owns an address of Exchange, such as
// /o=Example/ou=Exchange/cn=Recipients/cn=alice, in any spelling; nil when there
// is none or more than one.
func (s *Snapshot) ByX500(address string) *Entry {
	if address = FoldX500(address); address == "" {
		return nil
	}
	return s.only(byX500, address)
}

// All yields every entry that is in the directory, in no order.
func (s *Snapshot) All() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for packed := range s.packed() {
			if e := mustUnpack(packed); !e.IsGone() && !yield(e) {
				return
			}
		}
	}
}

// Gone yields the entries of those who have left the directory and whose mail is
// kept, in no order.
func (s *Snapshot) Gone() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		if !slices.ContainsFunc(slices.Collect(maps.Values(s.tally)), func(t Tally) bool { return t.Gone > 0 }) {
			return
		}
		for packed := range s.packed() {
			if e := mustUnpack(packed); e.IsGone() && !yield(e) {
				return
			}
		}
	}
}

// packed yields every entry as it is kept.
func (s *Snapshot) packed() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i, row := range s.shards {
			if row == nil {
				continue
			}
			for j, sh := range row {
				for _, c := range sh {
					h := s.hash(byKey, string(packedKey(c.node.packed)))
					// An entry stands in many shards; this is the one of its key.
					if byte(h>>56) != byte(i) || byte(h>>48) != byte(j) || uint32(h) != c.hash {
						continue
					}
					if !yield(c.node.packed) {
						return
					}
				}
			}
		}
	}
}

// IsLocalDomain reports whether domain, in canonical form, is ours.
func (s *Snapshot) IsLocalDomain(domain string) bool {
	_, ok := s.domains[domain]
	return ok
}

// Domains returns our domains, sorted.
func (s *Snapshot) Domains() []string { return slices.Sorted(maps.Keys(s.domains)) }
