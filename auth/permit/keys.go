package permit

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net/netip"
	"sync"
	"time"

	"dirpost/directory"
)

// sum is what is kept of something secret: the first half of an HMAC.
type sum [16]byte

// keyed makes sums under one key.
type keyed struct{ macs sync.Pool }

func newKeyed(key []byte) *keyed {
	return &keyed{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

// randomKey is one that exists in this process only.
func randomKey() []byte {
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails: it ends the process instead
	return key
}

// of returns the sum of fields, for one purpose. Each field but the last is
// preceded by its length, so that no two lists of fields are the same octets.
func (k *keyed) of(purpose string, fields ...string) (s sum) {
	h := k.macs.Get().(hash.Hash)
	defer k.macs.Put(h)
	h.Reset()
	var n [4]byte
	write := func(f string) {
		binary.BigEndian.PutUint32(n[:], uint32(len(f)))
		h.Write(n[:])
		h.Write([]byte(f))
	}
	write(purpose)
	for _, f := range fields {
		write(f)
	}
	var whole [sha256.Size]byte
	copy(s[:], h.Sum(whole[:0]))
	h.Reset()
	return s
}

// refusal is the sum of a password of a person, as long as nothing about the
// entry changes, its password too.
func (k *keyed) refusal(e *directory.Entry, password string) sum {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(e.Modified.UnixNano()))
	return k.of("refused", string(e.Key), string(at[:]), password)
}

// refusalSince is the sum of a password of a person, as long as the password of that
// person is the one that was set at a time. Unlike refusal it outlives what a directory
// writes into the entry when a password was wrong.
func (k *keyed) refusalSince(e *directory.Entry, set time.Time, password string) sum {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(set.UnixNano()))
	return k.of("refused since", string(e.Key), string(at[:]), password)
}

// password is the sum of a password, whoever's.
func (k *keyed) password(password string) sum { return k.of("spray", password) }

// account is a name that a password was tried with.
func (k *keyed) account(name string) int64 {
	s := k.of("account", name)
	return int64(binary.BigEndian.Uint64(s[:]))
}

// marks are where a person comes from: the network, and the certificate if there
// is one.
func (k *keyed) marks(person directory.Key, client netip.Addr, certificate []byte) []sum {
	marks := []sum{k.of("network", string(person), surroundings(client).String())}
	if len(certificate) > 0 {
		marks = append(marks, k.of("certificate", string(person), string(certificate)))
	}
	return marks
}

// surroundings is the network that a person is at home in: addresses change
// within it by themselves.
func surroundings(client netip.Addr) netip.Prefix {
	client = client.Unmap().WithZone("")
	bits := 24
	if client.Is6() {
		bits = 56
	}
	p, _ := client.Prefix(bits)
	return p
}

// network is what counts as one client: an IPv6 host has a /64 to choose from.
func network(client netip.Addr) netip.Prefix {
	client = client.Unmap().WithZone("")
	bits := 32
	if client.Is6() {
		bits = 64
	}
	p, _ := client.Prefix(bits)
	return p
}
