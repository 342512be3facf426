package ldap

import (
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/directory/descriptor"
	"dirpost/internal/envelope"
)

// attributeDescriptor is the security descriptor of an entry of Active Directory.
const attributeDescriptor = "nTSecurityDescriptor"

// oidSDFlags is LDAP_SERVER_SD_FLAGS_OID (MS-ADTS 3.1.1.3.4.1.11): which parts of a
// descriptor are wanted. Without it an account gets none, since it may not see what is
// audited.
const oidSDFlags = "1.2.840.113556.1.4.801"

// The parts of a descriptor.
const (
	sdOwner  = 1
	sdAccess = 4
)

// sdFlags is the control; its value is SEQUENCE { INTEGER }.
func sdFlags(parts byte) ldap.Control {
	return ldap.NewControlString(oidSDFlags, true, string([]byte{0x30, 3, 2, 1, parts}))
}

// A listDecoder takes several texts from one value.
type listDecoder func(value string) ([]string, error)

// maxDescriptor bounds a value that a listDecoder looks at, in octets.
const maxDescriptor = descriptor.MaxSize

// listDecoders are the names that may stand behind the colon in a mapping, beside those
// of decoders.
func listDecoders() map[string]listDecoder {
	return map[string]listDecoder{
		"send-as":    named(descriptor.SendAs),
		"receive-as": named(descriptor.ReceiveAs),
	}
}

// named takes those who are named for an extended right in a security descriptor, as
// the names by which a directory names members of other domains.
func named(right string) listDecoder {
	return func(value string) ([]string, error) {
		d, err := descriptor.Parse([]byte(value))
		if err != nil {
			return nil, err
		}
		all := d.Named(right)
		for i, sid := range all {
			all[i] = directory.ForeignName(sid)
		}
		return all, nil
	}
}

// fullRights are what somebody who may open a mailbox does with it (RFC 4314 §4):
// look, read, mark, put in, delete.
const fullRights = "lrswite"

// kolabACL takes an entry of the access list of a shared folder of Kolab, "subject,
// rights", whose rights are a word or those of RFC 4314. Who may do less than what
// opening a mailbox allows has no right by it, and neither has "anyone".
func kolabACL(value string) (string, error) {
	v, err := text(value)
	i := strings.LastIndexByte(v, ',')
	if err != nil || i < 0 {
		return "", err
	}
	subject, rights := strings.TrimSpace(v[:i]), strings.TrimSpace(v[i+1:])
	switch strings.ToLower(rights) {
	case "all", "full", "semi-full", "read-write", "write":
	default:
		for _, r := range []byte(fullRights) {
			if strings.IndexByte(rights, r) < 0 {
				return "", nil
			}
		}
	}
	if _, err := envelope.ParseAddress(subject); err != nil {
		return "", nil
	}
	return subject, nil
}

// wantsDescriptor reports whether the mapping reads security descriptors.
func (m *mapper) wantsDescriptor() bool {
	return slices.ContainsFunc(m.attributes, func(a string) bool { return strings.EqualFold(a, attributeDescriptor) })
}

// controls are those that all searches for mapped attributes need.
func (m *mapper) controls() []ldap.Control {
	if m.wantsDescriptor() {
		return []ldap.Control{sdFlags(sdAccess)}
	}
	return nil
}
