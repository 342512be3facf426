package ldap

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dirpost/directory"
)

// x500 fills in the addresses of Exchange.
func (r *reading) x500(e *directory.Entry) {
	for _, v := range r.all("x500") {
		if f := directory.FoldX500(v); f != "" {
			e.X500 = append(e.X500, f)
		} else {
			r.problem("x500", "its source", fmt.Errorf("no address of Exchange: %.80q", v))
		}
	}
	slices.Sort(e.X500)
	e.X500 = slices.Compact(e.X500)
}

// x500Address takes the X500 addresses of proxyAddresses.
func x500Address(v string) (string, error) {
	prefix, address, ok := strings.Cut(v, ":")
	if !ok || !strings.EqualFold(prefix, "x500") {
		return "", nil
	}
	return text(address)
}

// certificateMapping takes the values of altSecurityIdentities that name one
// certificate. The weak forms say nothing to us, however many a domain may have.
func certificateMapping(v string) (string, error) {
	name, err := directory.CertificateName(v)
	if errors.Is(err, directory.ErrWeakMapping) {
		return "", nil
	}
	return name, err
}

// certificateWhole takes the certificates of userCertificate;binary.
func certificateWhole(v string) (string, error) { return directory.CertificateOf([]byte(v)) }

// uuidText takes a UUID as text, in any of the ways directories write it.
func uuidText(v string) (string, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(v, "-", ""))
	if err != nil || len(raw) != 16 {
		return "", errors.New("not a UUID")
	}
	return formatUUID([16]byte(raw)), nil
}

// guid takes the 16 octets of objectGUID, whose first three fields are
// little-endian.
func guid(v string) (string, error) {
	if len(v) != 16 {
		return "", errors.New("not a GUID of 16 octets")
	}
	raw := [16]byte([]byte(v))
	var u [16]byte
	binary.BigEndian.PutUint32(u[:], binary.LittleEndian.Uint32(raw[:]))
	binary.BigEndian.PutUint16(u[4:], binary.LittleEndian.Uint16(raw[4:]))
	binary.BigEndian.PutUint16(u[6:], binary.LittleEndian.Uint16(raw[6:]))
	copy(u[8:], raw[8:])
	return formatUUID(u), nil
}

func formatUUID(u [16]byte) string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// maxSubAuthorities bounds a security identifier (MS-DTYP 2.4.2).
const maxSubAuthorities = 15

// sid takes a security identifier, in octets as objectSid has it (MS-DTYP
// 2.4.2.2) or as text, S-1-5-21-….
func sid(v string) (string, error) {
	if text, ok := strings.CutPrefix(v, "S-1-"); ok {
		parts := strings.Split(text, "-")
		if len(parts) > maxSubAuthorities+1 {
			return "", errNoSID
		}
		for _, p := range parts {
			if _, err := strconv.ParseUint(p, 10, 48); err != nil {
				return "", errNoSID
			}
		}
		return v, nil
	}
	if len(v) < 8 || v[0] != 1 || int(v[1]) > maxSubAuthorities || len(v) != 8+4*int(v[1]) {
		return "", errNoSID
	}
	raw := []byte(v)
	authority := uint64(binary.BigEndian.Uint16(raw[2:]))<<32 | uint64(binary.BigEndian.Uint32(raw[4:]))
	out := "S-1-" + strconv.FormatUint(authority, 10)
	for raw = raw[8:]; len(raw) > 0; raw = raw[4:] {
		out += "-" + strconv.FormatUint(uint64(binary.LittleEndian.Uint32(raw)), 10)
	}
	return out, nil
}

var errNoSID = errors.New("not a security identifier")

// primaryGroup returns the SID of a group, of which group is that or the last
// part, the others being those of the member.
func primaryGroup(member, group string) string {
	if group == "" || strings.HasPrefix(group, "S-1-") {
		return group
	}
	i := strings.LastIndexByte(member, '-')
	if i < 0 {
		return ""
	}
	return member[:i+1] + group
}

// relativeID takes the last part of a SID, as primaryGroupID has it.
func relativeID(v string) (string, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 32)
	if err != nil {
		return "", fmt.Errorf("not a relative identifier: %.40q", v)
	}
	return strconv.FormatUint(n, 10), nil
}
