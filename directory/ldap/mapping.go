package ldap

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dirpost/directory"
)

// source is one attribute and how its values are read.
type source struct {
	name      string // as the configuration has it, for people
	attribute string // lower case
	decode    decoder
	list      listDecoder // in place of decode, where it is there
}

// mapper turns LDAP entries into entries as mail sees them.
type mapper struct {
	profile   *profile
	directory string
	netbios   string // DOMAIN of DOMAIN\user
	dnsDomain string // of the base DN, for implicit UPNs
	base      string // DN of the configuration
	aliases   bool   // log in with further addresses
	rights    RightGroups

	filter     string // of what mail should know
	fields     map[string][]source
	variants   map[string]*compiledVariant // by class in lower case
	facts      []string                    // attributes that become facts, in lower case
	attributes []string                    // to ask for
}

// compiledVariant is a variant with its sources.
type compiledVariant struct {
	kind   directory.Kind
	fields map[string][]source
}

// newMapper compiles the mapping of a configuration as far as it is known without
// asking the server.
func newMapper(cfg Config) (*mapper, error) {
	p := profileOf(cfg.Preset)
	if p == nil {
		p = profileOpenLDAP
	}
	m, _, err := compile(cfg, p, nil)
	return m, err
}

// compile makes the mapping of a configuration for the profile p. s is what the
// server says about its schema, nil if it was not asked. The notes are about what
// the server does not know, and what is not read for that reason.
func compile(cfg Config, p *profile, s *schema) (m *mapper, notes []string, err error) {
	m = &mapper{
		profile:   p,
		directory: cfg.Name,
		netbios:   cfg.Domain,
		dnsDomain: dnsDomain(cfg.Base),
		base:      cfg.Base,
		aliases:   cfg.AliasLogins,
		rights:    cfg.Rights,
		filter:    cfg.Filter,
		fields:    map[string][]source{},
		variants:  map[string]*compiledVariant{},
	}
	if m.filter == "" {
		m.filter = p.filterOf()
	}
	c := compiler{m: m, schema: s, decoders: m.decoders(), ask: map[string]struct{}{"objectClass": {}}}
	texts := p.sources()
	for field, sources := range cfg.Mapping {
		if _, ok := levelOf(field); !ok {
			c.errs = append(c.errs, fmt.Errorf("mapping: no field %q; there are %s", field, strings.Join(fieldNames(), ", ")))
			continue
		}
		texts[field] = sources
		c.known(field, sources)
	}
	m.fields = c.fields(texts)
	for _, v := range p.variantsOf() {
		texts := maps.Clone(v.fields)
		for field := range cfg.Mapping {
			delete(texts, field)
		}
		m.variants[strings.ToLower(v.class)] = &compiledVariant{v.kind, c.fields(texts)}
	}
	c.facts(cfg)
	m.attributes = slices.Sorted(maps.Keys(c.ask))
	slices.Sort(c.notes)
	return m, slices.Compact(c.notes), errors.Join(c.errs...)
}

// compiler collects what compile finds.
type compiler struct {
	m        *mapper
	schema   *schema // nil: not asked
	decoders map[string]decoder
	ask      map[string]struct{} // attributes, as they are written
	notes    []string
	errs     []error
}

func (c *compiler) fields(texts map[string][]string) map[string][]source {
	fields := map[string][]source{}
	for field, sources := range texts {
		fields[field] = nil // a variant may say that there is none
		for _, text := range sources {
			attribute, name, _ := strings.Cut(text, ":")
			decode, ok := c.decoders[name]
			list := listDecoders()[name]
			if !ok && list == nil || !isAttribute(attribute) {
				words := slices.Concat(slices.Collect(maps.Keys(c.decoders)), slices.Collect(maps.Keys(listDecoders())))
				slices.Sort(words)
				c.errs = append(c.errs, fmt.Errorf("mapping: %s: %q: want attribute or attribute:decoder with one of %s", field, text, strings.Join(words, " ")))
				continue
			}
			if list != nil {
				c.ask[attribute] = struct{}{}
				fields[field] = append(fields[field], source{name: attribute, attribute: strings.ToLower(attribute), list: list})
				continue
			}
			if decode = c.unit(field, attribute, name, decode); decode == nil {
				continue
			}
			c.ask[attribute] = struct{}{}
			fields[field] = append(fields[field], source{name: attribute, attribute: strings.ToLower(attribute), decode: decode})
		}
	}
	return fields
}

// known notes what the configuration names and the server does not have.
func (c *compiler) known(field string, sources []string) {
	if c.schema == nil || !c.schema.known {
		return
	}
	for _, text := range sources {
		attribute, _, _ := strings.Cut(text, ":")
		bare, _, _ := strings.Cut(strings.ToLower(attribute), ";")
		if c.schema.attributes[bare] == "" {
			c.notes = append(c.notes, fmt.Sprintf("mapping.%s: the server has no attribute %s", field, attribute))
		}
	}
}

// facts settles which attributes queries may ask for.
func (c *compiler) facts(cfg Config) {
	facts := cfg.Facts
	if facts == nil {
		facts = c.m.profile.factsOf()
	}
	for _, attribute := range slices.Concat(facts, cfg.MoreFacts) {
		if !isAttribute(attribute) {
			c.errs = append(c.errs, fmt.Errorf("facts: %q is not the name of an attribute", attribute))
			continue
		}
		c.ask[attribute] = struct{}{}
		c.m.facts = append(c.m.facts, strings.ToLower(attribute))
	}
	slices.Sort(c.m.facts)
	c.m.facts = slices.Compact(c.m.facts)
}

// byOID is the decoder of a size whose unit follows from what the server means by
// the attribute.
const byOID = "by-oid"

// unitsByOID are the definitions of mailQuota that are known; there are many more.
var unitsByOID = []struct{ arc, decoder string }{
	{"1.3.6.1.4.1.29426.1.10.7", "kib"},     // Postfix Book
	{"1.3.6.1.4.1.32349.1.2.2.5", "octets"}, // iRedMail
	{"2.16.840.1.113730.3.1.21", "octets"},  // Netscape
	{"1.3.6.1.4.1.12340.6.2.", "octets"},    // DBMail
}

// unit returns the decoder for a size whose unit the schema knows, nil if it is
// not known: a quota that is wrong by a factor of 1,024 is worse than none.
func (c *compiler) unit(field, attribute, name string, decode decoder) decoder {
	if name != byOID && name != "kib" && name != "mib" && name != "octets" || c.schema == nil {
		if name == byOID {
			return nil
		}
		return decode
	}
	oid := c.schema.attributes[strings.ToLower(attribute)]
	if oid == "" || name != byOID && !strings.EqualFold(attribute, "mailQuota") {
		if name == byOID {
			return nil
		}
		return decode
	}
	for _, u := range unitsByOID {
		if oid != u.arc && !(strings.HasSuffix(u.arc, ".") && strings.HasPrefix(oid, u.arc)) {
			continue
		}
		if name == byOID {
			return c.decoders[u.decoder]
		}
		if name != u.decoder && c.m.profile.name != PresetKolab { // which counts Netscape's in KiB
			c.notes = append(c.notes, fmt.Sprintf("%s: %s is %s here, which counts in %s, and is read in %s", field, attribute, oid, u.decoder, name))
		}
		return decode
	}
	if name == byOID {
		c.notes = append(c.notes, fmt.Sprintf(`%s: what unit %s (%s) counts in is not known, so it is not read: write mapping.%s = ["%s:kib"], or :mib or :octets`, field, attribute, oid, field, attribute))
		return nil
	}
	return decode
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
