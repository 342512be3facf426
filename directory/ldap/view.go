package ldap

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

// viewVersion moves on when this program reads the same entries in another way.
const viewVersion = 5

// view is a hash of what is asked for and how it is read. It stands before each
// cookie: the server tells what has changed since a cookie, and nothing about
// entries that another filter or another mapping would see for the first time.
func (b *base) view() []byte {
	cfg := b.client.cfg
	h := sha256.New()
	fmt.Fprintf(h, "%d %q %q %q %q %t %q %q %q %q", viewVersion, b.mapper().profile.name, cfg.Base, b.mapper().filter, b.mapper().netbios, cfg.AliasLogins, cfg.Mapping, b.mapper().attributes, b.mapper().facts, cfg.Rights)
	return h.Sum(nil)[:viewSize]
}

const viewSize = 16

// ownCookie returns the server's part of a cookie, nil if it belongs to another
// view: then everything is compared once.
func (b *base) ownCookie(cookie []byte) []byte {
	rest, ok := bytes.CutPrefix(cookie, b.view())
	if !ok {
		return nil
	}
	return rest
}
