package filter

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// entry are the values of an entry, "attribute=value" with the attribute in lower
// case.
type entry []string

func (e entry) lookup(attribute string, match func(string) bool) bool {
	for _, f := range e {
		if name, v, _ := strings.Cut(f, "="); name == attribute && match(v) {
			return true
		}
	}
	return false
}

var alice = entry{"objectclass=inetOrgPerson", "objectclass=top", "cn=Alice  Example", "l=Köln", "title=Head (of) *Sales*", "employeenumber=0042",
	"useraccountcontrol=514", "manager=CN=Bob, OU=People,DC=corp", "mail=alice@corp.example"}

func TestMatch(t *testing.T) {
	t.Parallel()
	for filter, want := range map[string]bool{
		"(cn=alice example)":                true,
		"(CN=  ALICE   EXAMPLE )":           true,
		"(cn=alice)":                        false,
		"cn=alice example":                  true, // as people write it
		" (& (cn=alice*) (l=köln) ) ":       true,
		"(cn;lang-de=alice example)":        true,
		"(l=KÖLN)":                          true,
		"(l=ko\xcc\x88ln)":                  true, // decomposed
		`(l=k\c3\b6ln)`:                     true,
		"(mail=*)":                          true,
		"(fax=*)":                           false,
		"(!(fax=*))":                        true,
		"(cn=al*)":                          true,
		"(cn=*ple)":                         true,
		"(cn=a*e*ple)":                      true,
		"(cn=a*xx*ple)":                     false,
		"(cn=*a*e*)":                        true,
		"(cn=alice example*alice example)":  false, // the parts must not overlap
		"(cn=**)":                           true,
		`(title=head \28of\29 \2asales\2a)`: true,
		"(cn~=alice example)":               true,
		"(employeeNumber>=42)":              true,
		"(employeeNumber>=43)":              false,
		"(employeeNumber<=100)":             true,
		"(l>=k)":                            true,
		"(l<=a)":                            false,
		"(userAccountControl:1.2.840.113556.1.4.803:=2)":    true,
		"(!(userAccountControl:1.2.840.113556.1.4.803:=3))": true,
		"(userAccountControl:1.2.840.113556.1.4.804:=3)":    true,
		"(cn:1.2.840.113556.1.4.803:=2)":                    false,
		"(manager=cn=bob,ou=People,dc=CORP)":                true,
		"(&)":                                               true,
		"(|)":                                               false,
		"(&(objectClass=inetOrgPerson)(|(l=bonn)(l=köln))(!(title=trainee)))":   true,
		"(&(objectClass=inetOrgPerson)(|(l=bonn)(l=berlin)))":                   false,
		"(&(objectClass=*)(!(|(mail=bob@corp.example)(mail=*@other.example))))": true,
	} {
		f, err := Parse(filter)
		if err != nil {
			t.Errorf("Parse(%s): %v", filter, err)
		} else if got := f.Match(alice.lookup); got != want {
			t.Errorf("%s matches: %v, want %v", filter, got, want)
		}
	}
	if (Filter{}).Match(alice.lookup) {
		t.Error("the zero filter matches")
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "cn=x)", "(cn=x", "(cn=x))", "(=x)", "(cn)", "(cn=x)(cn=y)", "(!(a=b)(c=d))", "(!)", `(cn=\4)`, `(cn=\zz)`, "(cn=(x)", "(cn=a\x00b)",
		"(cn>=a*)", "(cn:dn:=x)", "(:caseIgnoreMatch:=x)", "(uac:1.2.840.113556.1.4.803:=x)", "(memberOf:1.2.840.113556.1.4.1941:=cn=x)", "(a::=x)", "(ü=x)",
		strings.Repeat("(!", MaxDepth) + "(a=b)" + strings.Repeat(")", MaxDepth),
		"(&" + strings.Repeat("(a=b)", MaxConditions) + ")",
		"(a=" + strings.Repeat("x", MaxSize) + ")",
	} {
		if _, err := Parse(text); !errors.Is(err, ErrSyntax) {
			t.Errorf("Parse(%.60q) = %v, want ErrSyntax", text, err)
		}
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	f, err := Parse("(&(cn=x)(!(memberOf=cn=g))(CN=y))")
	if got := f.Attributes(); err != nil || !slices.Equal(got, []string{"cn", "memberof"}) {
		t.Errorf("Attributes of %s: %v, %v", f, got, err)
	}
	if got := (Filter{}).Attributes(); got != nil {
		t.Errorf("Attributes of nothing: %v", got)
	}
}

// What a filter is written as means the same when it is read again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"(&(objectClass=*)(|(l=k\\c3\\b6ln)(!(cn=a*b*c))))", "(a>=1)", "(a:1.2.840.113556.1.4.804:= 3)", `(a=\00\ff)`, "(&)", "(a=*)", "(a=* *)", "(cn=x =, y)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		one, err := Parse(text)
		if err != nil || len(one.String()) > MaxSize { // escapes are longer than what they stand for
			return
		}
		two, err := Parse(one.String())
		if err != nil || two.String() != one.String() {
			t.Fatalf("%q is %q, then %q (%v)", text, one, two, err)
		}
		if one.Match(alice.lookup) != two.Match(alice.lookup) {
			t.Errorf("%q and %q answer differently", text, one)
		}
	})
}
