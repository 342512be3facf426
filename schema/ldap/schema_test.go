package ldap

import (
	_ "embed"
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite dirpost.ldif")

// TestLDIF: the two files of the optional schema say the same.
func TestLDIF(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	entry := "dn: cn=dirpost,cn=schema,cn=config\nobjectClass: olcSchemaConfig\ncn: dirpost\n"
	for line := range strings.Lines(Schema) {
		switch {
		case strings.HasPrefix(line, "# For slapd.conf:"):
			line = "# For cn=config: ldapadd -Y EXTERNAL -H ldapi:/// -f dirpost.ldif\n"
		case line == "\n":
			if entry == "" {
				continue // an empty line would end the entry
			}
		case strings.HasPrefix(line, "objectidentifier "):
			b.WriteString(entry)
			entry = ""
			line = "olcObjectIdentifier: " + strings.TrimPrefix(line, "objectidentifier ")
		case strings.HasPrefix(line, "attributetype "):
			line = "olcAttributeTypes: " + strings.TrimPrefix(line, "attributetype ")
		case strings.HasPrefix(line, "objectclass "):
			line = "olcObjectClasses: " + strings.TrimPrefix(line, "objectclass ")
		}
		b.WriteString(line)
	}
	if *update {
		if err := os.WriteFile("dirpost.ldif", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile("dirpost.ldif")
	if err != nil || string(have) != b.String() {
		t.Errorf("dirpost.ldif is not dirpost.schema: go test ./schema/ldap -update (%v)", err)
	}
}
