package testenv

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"
)

// Directions of a trust, as the domain sees it that has the entry ([MS-ADTS]
// §6.1.6.7.12).
const (
	trustInbound  = 1 // the other one trusts us
	trustOutbound = 2 // we trust the other one
)

// trusting lets one test at a time make a trust, of which there is one.
var trusting sync.Mutex

// Trust lets people of other use the services of s by Kerberos, as an external trust
// of s in other does: both controllers make tickets for it at once. What such a trust
// has in RPC is not there, see ADForest.
func (s *ADServer) Trust(t testing.TB, other *ADServer) {
	t.Helper()
	trusting.Lock()
	defer trusting.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, e := range []struct {
		at, of    *ADServer
		direction int
		secret    string
	}{{s, other, trustOutbound, "trustAuthOutgoing"}, {other, s, trustInbound, "trustAuthIncoming"}} {
		sid, err := e.of.cfg.Read(ctx, e.of.Base, "objectSid")
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ToLower(e.of.Realm)
		dn := "CN=" + name + ",CN=System," + e.at.Base
		if _, err := e.at.cfg.Read(ctx, dn, "trustPartner"); err == nil {
			continue
		}
		err = e.at.cfg.Relax(ctx, fmt.Sprintf(`dn: %s
objectClass: trustedDomain
trustPartner: %s
flatName: %s
securityIdentifier: %s
trustDirection: %d
trustType: 2
trustAttributes: 0
msDS-SupportedEncryptionTypes: 24
%s:: %s
`, dn, name, e.of.Domain, sid, e.direction, e.secret, base64.StdEncoding.EncodeToString(trustSecret("Passw0rd.Trust"))))
		if err != nil {
			t.Fatalf("trust: %v", err)
		}
	}
}

// trustSecret is what both domains know of each other: one password in clear, now and
// before ([MS-ADTS] §6.1.6.9.1).
func trustSecret(password string) []byte {
	const inClear = 2
	var text []byte
	for _, u := range utf16.Encode([]rune(password)) {
		text = binary.LittleEndian.AppendUint16(text, u)
	}
	one := make([]byte, 8) // when it was set
	one = binary.LittleEndian.AppendUint32(one, inClear)
	one = binary.LittleEndian.AppendUint32(one, uint32(len(text)))
	one = append(append(one, text...), make([]byte, -len(text)&3)...)
	b := binary.LittleEndian.AppendUint32(nil, 1)
	b = binary.LittleEndian.AppendUint32(b, 12)                  // where the one of now is
	b = binary.LittleEndian.AppendUint32(b, uint32(12+len(one))) // and that of before
	return append(append(b, one...), one...)
}
