package ldap

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"
	"dirpost/schema/ldap"
)

// TestOwnSchema: each attribute of the optional schema is read, and what is read is
// in it; a real server takes entries with all of them.
func TestOwnSchema(t *testing.T) {
	t.Parallel()
	var have, want []string
	for _, m := range regexp.MustCompile(`attributetype \( dirpostAttr:\d+ NAME '(\w+)'`).FindAllStringSubmatch(ldap.Schema, -1) {
		have = append(have, m[1])
	}
	for _, sources := range ownFields {
		for _, s := range sources {
			attribute, _, _ := strings.Cut(s, ":")
			want = append(want, attribute)
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	if want = slices.Compact(want); !slices.Equal(have, want) {
		t.Errorf("the schema has %q, the table %q", have, want)
	}
	s := testenv.SlapdWith(t, "", `
dn: uid=pia,ou=people,dc=corp,dc=example
objectClass: inetOrgPerson
objectClass: dirpostMailbox
uid: pia
cn: Pia
sn: Pia
departmentNumber: 7
dirpostAddress: pia@corp.example
dirpostAlias: p@corp.example
dirpostEnabled: active
dirpostQuotaBytes: 300
dirpostQuotaSendBytes: 200
dirpostQuotaWarnBytes: 100
dirpostMaxReceiveBytes: 50
dirpostMaxSendBytes: 40
dirpostForward: pia@home.example
dirpostForwardKeepCopy: TRUE
dirpostService: imap
dirpostSendAs: uid=alice,ou=people,dc=corp,dc=example
dirpostSendOnBehalf: uid=bob,ou=people,dc=corp,dc=example
dirpostFullAccess: uid=alice,ou=people,dc=corp,dc=example
dirpostHidden: TRUE
dirpostMailboxKind: personal
dirpostNextHop: other.example

dn: cn=seven,ou=groups,dc=corp,dc=example
objectClass: organizationalRole
objectClass: dirpostList
cn: seven
dirpostAddress: seven@corp.example
dirpostListFilter: (departmentNumber=7)
dirpostListFilterBase: ou=people,dc=corp,dc=example
dirpostListExternalMember: partner@other.example
dirpostListPolicy: internal
dirpostListOwner: uid=alice,ou=people,dc=corp,dc=example
dirpostListModerator: uid=bob,ou=people,dc=corp,dc=example
dirpostListSender: uid=carol,ou=people,dc=corp,dc=example
dirpostListAllowed: uid=alice,ou=people,dc=corp,dc=example
dirpostListBarred: uid=bob,ou=people,dc=corp,dc=example
dirpostMaxReceiveBytes: 30
`)
	snap := directory.NewSnapshot([]string{"corp.example"}, entries(t, client(t, config(t, s))))
	pia, seven := snap.ByAddress(address(t, "p@corp.example")), snap.ByAddress(address(t, "seven@corp.example"))
	if pia == nil || seven == nil || len(pia.Unreadable)+len(seven.Unreadable) > 0 {
		t.Fatalf("%+v %+v", pia, seven)
	}
	if pia.Quota != 300 || pia.QuotaSend != 200 || pia.QuotaWarn != 100 || pia.MaxReceive != 50 || pia.MaxSend != 40 || !pia.Hidden || !pia.KeepCopy || !slices.Equal(pia.Services, []string{"imap"}) {
		t.Errorf("%+v", pia)
	}
	if seven.MaxReceive != 30 || len(seven.Owners) != 1 || len(seven.Moderators) != 1 || len(seven.Senders) != 2 || len(seven.Barred) != 1 || seven.Policy != directory.ListOwners {
		t.Errorf("%+v", seven)
	}
	x := snap.Expand([]envelope.Recipient{{Address: seven.Primary}}, directory.Terms{Sender: snap.ByLogin("alice")})
	if len(x.Local) != 1 || x.Local[0].Entry.Key != pia.Key || len(x.Remote) != 2 {
		t.Errorf("%+v", x)
	}
}
