package ldap

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// source is one attribute and how its values are read.
type source struct {
	name      string // as the configuration has it, for people
	attribute string // lower case
	decode    decoder
}

// mapper turns LDAP entries into entries as mail sees them.
type mapper struct {
	directory string
	netbios   string // DOMAIN of DOMAIN\user
	dnsDomain string // of the base DN, for implicit UPNs
	base      string // DN of the configuration
	aliases   bool   // log in with further addresses

	fields     map[string][]source
	facts      []string // attributes that become facts, in lower case
	attributes []string // to ask for
}

// newMapper compiles the mapping of a configuration.
func newMapper(cfg Config) (*mapper, error) {
	m := &mapper{
		directory: cfg.Name,
		netbios:   cfg.Domain,
		dnsDomain: dnsDomain(cfg.Base),
		base:      cfg.Base,
		aliases:   cfg.AliasLogins,
		fields:    map[string][]source{},
	}
	texts := presets(cfg.Preset)
	var errs []error
	for field, sources := range cfg.Mapping {
		if _, ok := levelOf(field); !ok {
			errs = append(errs, fmt.Errorf("mapping: no field %q; there are %s", field, strings.Join(fieldNames(), ", ")))
			continue
		}
		texts[field] = sources
	}
	ask := map[string]struct{}{"objectClass": {}}
	all := m.decoders()
	for field, sources := range texts {
		for _, text := range sources {
			attribute, name, _ := strings.Cut(text, ":")
			decode, ok := all[name]
			if !ok || !isAttribute(attribute) {
				errs = append(errs, fmt.Errorf("mapping: %s: %q: want attribute or attribute:decoder with one of %s", field, text, strings.Join(slices.Sorted(maps.Keys(all)), " ")))
				continue
			}
			ask[attribute] = struct{}{}
			m.fields[field] = append(m.fields[field], source{attribute, strings.ToLower(attribute), decode})
		}
	}
	facts := cfg.Facts
	if facts == nil {
		facts = DefaultFacts()
	}
	for _, attribute := range facts {
		if !isAttribute(attribute) {
			errs = append(errs, fmt.Errorf("facts: %q is not the name of an attribute", attribute))
			continue
		}
		ask[attribute] = struct{}{}
		m.facts = append(m.facts, strings.ToLower(attribute))
	}
	m.attributes = slices.Sorted(maps.Keys(ask))
	return m, errors.Join(errs...)
}

func fieldNames() []string {
	var names []string
	for _, f := range Fields() {
		names = append(names, f.Name)
	}
	return names
}

// isAttribute reports whether name can be that of an attribute: a descriptor or
// the digits of an OID, with options (RFC 4512 §2.5).
func isAttribute(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != ';' {
			return false
		}
	}
	return name != "" && len(name) <= 128
}

// dnsDomain returns corp.example for DC=corp,DC=example.
func dnsDomain(base string) string {
	var labels []string
	for _, rdn := range strings.Split(base, ",") {
		if typ, value, ok := strings.Cut(strings.TrimSpace(rdn), "="); ok && strings.EqualFold(typ, "dc") {
			labels = append(labels, value)
		}
	}
	return strings.ToLower(strings.Join(labels, "."))
}
