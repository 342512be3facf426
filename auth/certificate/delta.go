package certificate

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidFreshest = asn1.ObjectIdentifier{2, 5, 29, 46}
	oidIssuer   = asn1.ObjectIdentifier{2, 5, 29, 29} // of an entry of an indirect list
)

const (
	// maxDeltas bounds how many of the places that one list or certificate names for
	// delta lists are asked.
	maxDeltas = 2
	// deltaTime bounds one request for a delta list: without it the full one counts.
	deltaTime = 3 * time.Second
	// reasonRemoved takes an entry of the full list away: a certificate that was on
	// hold, or has expired (RFC 5280 §5.3.1).
	reasonRemoved = 8
)

// errDelta reports a delta list where a full one is wanted.
var errDelta = errors.New("a delta list, which only adds to another: give the full one too")

// readDelta reads what makes r a delta list (RFC 5280 §5.2.4).
func (r *revocations) readDelta(der []byte) error {
	in := cryptobyte.String(der)
	r.base = new(big.Int)
	if !in.ReadASN1Integer(r.base) || !in.Empty() || r.raw.Number == nil {
		return errors.New("number of the full list cannot be read")
	}
	return nil
}

// freshest returns the places of delta lists that an extension names (RFC 5280
// §4.2.1.15, §5.2.6). What cannot be read names none.
func freshest(der []byte) (places []string) {
	in := cryptobyte.String(der)
	var points cryptobyte.String
	if !in.ReadASN1(&points, cryptobyte_asn1.SEQUENCE) {
		return nil
	}
	for !points.Empty() {
		var point, name cryptobyte.String
		var has bool
		if !points.ReadASN1(&point, cryptobyte_asn1.SEQUENCE) ||
			!point.ReadOptionalASN1(&name, &has, cryptobyte_asn1.Tag(0).ContextSpecific().Constructed()) {
			return places
		}
		if has && point.Empty() { // not for some reasons only, nor of another authority
			places = append(places, pointURIs(name)...)
		}
	}
	return places
}

// deltas returns the places where delta lists to r may be, for a certificate.
func (l *lists) deltas(r *revocations, c *x509.Certificate) []string {
	places := slices.Clone(r.freshest)
	for _, e := range c.Extensions {
		if e.Id.Equal(oidFreshest) {
			places = append(places, freshest(e.Value)...)
		}
	}
	var out []string
	for _, p := range places {
		if isHTTP(p) && len(out) < maxDeltas && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return append(out, l.places...)
}

// amend says whether c is revoked by the newest delta list to r that can be had, where
// by r itself it is as revoked says. A delta list that is missing changes nothing: r is
// good until its own end.
func (l *lists) amend(ctx context.Context, r *revocations, c, issuer *x509.Certificate, revoked bool) bool {
	if r.raw.Number == nil {
		return revoked
	}
	var newest *revocations
	for _, place := range l.deltas(r, c) {
		d, err := l.getWithin(ctx, place, deltaTime)
		if err != nil || d.base == nil || !d.addsTo(r) || d.answersFor(c, issuer, l.now()) != nil {
			continue
		}
		if newest == nil || d.raw.Number.Cmp(newest.raw.Number) > 0 {
			newest = d
		}
	}
	if newest == nil {
		return revoked
	}
	serial := c.SerialNumber.Bytes()
	if _, ok := newest.removed[string(serial)]; ok {
		return false
	}
	_, ok := newest.serials[string(serial)]
	return revoked || ok
}

// addsTo reports whether d is a delta list that may be put together with r (RFC 5280
// §5.2.4): of the same authority and scope, made on a full list no newer than r, and
// itself no older.
func (d *revocations) addsTo(r *revocations) bool {
	return bytes.Equal(d.raw.RawIssuer, r.raw.RawIssuer) && bytes.Equal(d.idp, r.idp) &&
		d.base.Cmp(r.raw.Number) <= 0 && d.raw.Number.Cmp(r.raw.Number) >= 0
}
