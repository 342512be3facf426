package ldap

import (
	"slices"

	"dirpost/directory"
)

// profile is how the directories of one family hold what mail asks for.
type profile struct {
	name   string
	title  string // for documents
	ad     bool   // Active Directory
	filter string // of what mail should know; "" is that of the openldap profile
	marks  []mark // what its schema has and no other
	// fields is where the logical fields come from, beyond those of below.
	fields map[string][]string
	// below is the profile whose sources count where fields has none.
	below *profile
	// variants read entries of some classes in another way.
	variants []variant
	facts    []string // beside DefaultFacts
}

// mark is a class, or with Active Directory an attribute, by which a schema is
// known: its name, and how the object identifier begins, since a name may stand
// for anything.
type mark struct{ name, arc string }

// variant is how entries of one class differ from the others of their profile.
type variant struct {
	class  string
	kind   directory.Kind
	fields map[string][]string
}

// The profiles, as Config.Preset names them.
const (
	PresetAuto        = "auto"
	PresetAD          = "ad"
	PresetADExchange  = "ad-exchange"
	PresetOpenLDAP    = "openldap"
	PresetQmail       = "qmail"
	PresetPostfixBook = "postfixbook"
	PresetIRedMail    = "iredmail"
	PresetKolab       = "kolab"
	PresetUCS         = "ucs"
	Preset389DS       = "389ds"
	PresetFreeIPA     = "freeipa"
)

// profiles are in the order in which they are looked for: what says more about
// mail comes first.
var profiles = []*profile{
	profileAD, profileADExchange,
	profileIRedMail, profileKolab, profileUCS, profileQmail, profilePostfixBook, profileFreeIPA, profile389DS,
	profileOpenLDAP,
}

// Presets are the words of Config.Preset.
func Presets() []string {
	names := []string{PresetAuto}
	for _, p := range profiles {
		names = append(names, p.name)
	}
	return names
}

// profileOf returns the profile of a name, nil if there is none.
func profileOf(name string) *profile {
	for _, p := range profiles {
		if p.name == name {
			return p
		}
	}
	return nil
}

// sources returns where each logical field comes from. The optional schema of
// Dirpost comes before what the profile says.
func (p *profile) sources() map[string][]string {
	all := map[string][]string{}
	for q := p; q != nil; q = q.below {
		for field, list := range q.fields {
			if _, ok := all[field]; !ok {
				all[field] = list
			}
		}
	}
	if !p.ad {
		for field, own := range ownFields {
			all[field] = append(slices.Clone(own), all[field]...)
		}
	}
	return all
}

// variantsOf returns the variants of p and of those below it.
func (p *profile) variantsOf() []variant {
	var all []variant
	for ; p != nil; p = p.below {
		all = append(all, p.variants...)
	}
	return all
}

func (p *profile) filterOf() string {
	for ; p != nil; p = p.below {
		if p.filter != "" {
			return p.filter
		}
	}
	return openLDAPFilter
}

func (p *profile) factsOf() []string {
	facts := DefaultFacts()
	for ; p != nil; p = p.below {
		facts = append(facts, p.facts...)
	}
	slices.Sort(facts)
	return slices.Compact(facts)
}
