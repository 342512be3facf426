package ldap

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// LDIFChange is one record of a file that ldapmodify would carry out (RFC 2849).
type LDIFChange struct {
	Line int // where it begins
	DN   string
	Type string // add, modify, delete, modrdn

	Attributes []LDIFAttribute // add: what the entry has
	Mods       []LDIFMod       // modify
	NewDN      string          // modrdn
}

// LDIFAttribute is an attribute with its values.
type LDIFAttribute struct {
	Name   string
	Values []string
}

// LDIFMod is one change of an attribute: add, delete, replace, increment.
type LDIFMod struct {
	Op string
	LDIFAttribute
}

// maxLDIF bounds a file of changes, in octets.
const maxLDIF = 64 << 20

// ParseLDIF reads a file of changes. A record without changetype adds an entry.
// Values from files or URLs ("attribute:< file:///…") are refused: nothing that a
// value names is ever opened.
func ParseLDIF(text string) ([]LDIFChange, error) {
	if len(text) > maxLDIF {
		return nil, fmt.Errorf("LDIF of %d octets, there may be %d", len(text), maxLDIF)
	}
	var all []LDIFChange
	for _, block := range ldifBlocks(text) {
		c, err := parseRecord(block)
		if err != nil {
			return nil, fmt.Errorf("LDIF, line %d: %w", block[0].number, err)
		}
		if c != nil {
			all = append(all, *c)
		}
	}
	return all, nil
}

// ldifLine is one logical line.
type ldifLine struct {
	number int
	text   string
}

// ldifBlocks splits text into records: logical lines without comments, continued
// lines joined (RFC 2849, notes 2 and 4).
func ldifBlocks(text string) [][]ldifLine {
	var all [][]ldifLine
	var block []ldifLine
	comment := false
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, " "):
			if !comment && len(block) > 0 {
				block[len(block)-1].text += line[1:]
			}
		case line == "":
			if len(block) > 0 {
				all = append(all, block)
			}
			block, comment = nil, false
		case line[0] == '#':
			comment = true
		default:
			block, comment = append(block, ldifLine{number, line}), false
		}
	}
	if len(block) > 0 {
		all = append(all, block)
	}
	return all
}

// ldifPair splits "name: value", "name:: base64".
func ldifPair(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok || name == "" {
		return "", "", fmt.Errorf("%.60q is no line of LDIF: want attribute: value", line)
	}
	switch {
	case strings.HasPrefix(value, "<"):
		return "", "", fmt.Errorf("%s comes from a file or URL, which is not opened", name)
	case strings.HasPrefix(value, ":"):
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value[1:]))
		if err != nil {
			return "", "", fmt.Errorf("%s is not base64", name)
		}
		return name, string(raw), nil
	}
	return name, strings.TrimLeft(value, " "), nil
}

// parseRecord reads one record, nil for the line with the version.
func parseRecord(block []ldifLine) (*LDIFChange, error) {
	name, value, err := ldifPair(block[0].text)
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(name, "version") {
		if block = block[1:]; len(block) == 0 {
			return nil, nil
		}
		if name, value, err = ldifPair(block[0].text); err != nil {
			return nil, err
		}
	}
	if !strings.EqualFold(name, "dn") {
		return nil, fmt.Errorf("a record begins with dn:, not with %.40q", name)
	}
	c := &LDIFChange{Line: block[0].number, DN: value, Type: "add"}
	rest := block[1:]
	for len(rest) > 0 && strings.HasPrefix(strings.ToLower(rest[0].text), "control:") {
		rest = rest[1:]
	}
	if len(rest) > 0 && strings.HasPrefix(strings.ToLower(rest[0].text), "changetype:") {
		_, c.Type, err = ldifPair(rest[0].text)
		if err != nil {
			return nil, err
		}
		c.Type, rest = strings.ToLower(strings.TrimSpace(c.Type)), rest[1:]
	}
	switch c.Type {
	case "add":
		err = c.readAttributes(rest)
	case "modify":
		err = c.readMods(rest)
	case "delete":
	case "modrdn", "moddn":
		c.Type = "modrdn"
		err = c.readNewDN(rest)
	default:
		err = fmt.Errorf("changetype %.40q: want add, modify, delete or modrdn", c.Type)
	}
	return c, err
}

func (c *LDIFChange) readAttributes(lines []ldifLine) error {
	for _, l := range lines {
		name, value, err := ldifPair(l.text)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(c.Attributes, func(a LDIFAttribute) bool { return strings.EqualFold(a.Name, name) })
		if i < 0 {
			c.Attributes = append(c.Attributes, LDIFAttribute{Name: name})
			i = len(c.Attributes) - 1
		}
		c.Attributes[i].Values = append(c.Attributes[i].Values, value)
	}
	return nil
}

// readMods reads changes of attributes, each ended by "-".
func (c *LDIFChange) readMods(lines []ldifLine) error {
	for len(lines) > 0 {
		op, name, err := ldifPair(lines[0].text)
		if err != nil {
			return err
		}
		m := LDIFMod{Op: strings.ToLower(op), LDIFAttribute: LDIFAttribute{Name: strings.TrimSpace(name)}}
		if !slices.Contains([]string{"add", "delete", "replace", "increment"}, m.Op) {
			return fmt.Errorf("%.40q: want add, delete or replace", op)
		}
		for lines = lines[1:]; len(lines) > 0 && lines[0].text != "-"; lines = lines[1:] {
			attribute, value, err := ldifPair(lines[0].text)
			if err != nil {
				return err
			}
			if !strings.EqualFold(attribute, m.Name) {
				return fmt.Errorf("a value of %s where one of %s is wanted", attribute, m.Name)
			}
			m.Values = append(m.Values, value)
		}
		if len(lines) > 0 {
			lines = lines[1:]
		}
		c.Mods = append(c.Mods, m)
	}
	return nil
}

func (c *LDIFChange) readNewDN(lines []ldifLine) error {
	rdn, superior, hasSuperior := "", "", false
	for _, l := range lines {
		name, value, err := ldifPair(l.text)
		if err != nil {
			return err
		}
		switch strings.ToLower(name) {
		case "newrdn":
			rdn = value
		case "newsuperior":
			superior, hasSuperior = value, true
		}
	}
	if rdn == "" {
		return errors.New("modrdn without newrdn")
	}
	if !hasSuperior {
		_, superior = splitRDN(c.DN)
	}
	c.NewDN = rdn
	if superior != "" {
		c.NewDN += "," + superior
	}
	return nil
}

// splitRDN splits a DN behind its first name.
func splitRDN(dn string) (rdn, above string) {
	for i := 0; i < len(dn); i++ {
		switch dn[i] {
		case '\\':
			i++
		case ',':
			return dn[:i], dn[i+1:]
		}
	}
	return dn, ""
}

// tree is a directory in memory: entries by their DN in normal form.
type tree map[string]*ldap.Entry

// apply carries out one change, and returns the DNs that are new. An entry that
// mail does not know of may be changed and deleted all the same.
func (t tree) apply(c LDIFChange) (added []string, err error) {
	dn := directory.NormalizeDN(c.DN)
	le := t[dn]
	switch c.Type {
	case "add":
		if le != nil {
			return nil, fmt.Errorf("LDIF, line %d: %s is there already", c.Line, c.DN)
		}
		le = &ldap.Entry{DN: c.DN}
		for _, a := range c.Attributes {
			le.Attributes = append(le.Attributes, ldap.NewEntryAttribute(a.Name, a.Values))
		}
		t[dn] = le
		return []string{dn}, nil
	case "delete":
		delete(t, dn)
	case "modify":
		if le != nil {
			for _, m := range c.Mods {
				change(le, m)
			}
		}
	case "modrdn":
		if le != nil {
			return t.rename(dn, le, c.NewDN), nil
		}
	}
	return nil, nil
}

// rename moves an entry and what stands below it.
func (t tree) rename(dn string, le *ldap.Entry, to string) (added []string) {
	at := directory.NormalizeDN(to)
	for name, below := range t {
		if above, ok := strings.CutSuffix(name, ","+dn); ok {
			delete(t, name)
			below.DN = above + "," + to
			t[above+","+at] = below
			added = append(added, above+","+at)
		}
	}
	delete(t, dn)
	le.DN = to
	t[at] = le
	return append(added, at)
}

// change changes one attribute. Values compare without regard to case, as nearly
// all that mail reads do.
func change(le *ldap.Entry, m LDIFMod) {
	i := slices.IndexFunc(le.Attributes, func(a *ldap.EntryAttribute) bool { return strings.EqualFold(a.Name, m.Name) })
	var values []string
	if i >= 0 {
		values = slices.Clone(le.Attributes[i].Values)
	}
	switch m.Op {
	case "add":
		values = append(values, m.Values...)
	case "replace":
		values = m.Values
	case "delete":
		if len(m.Values) == 0 {
			values = nil
		}
		values = slices.DeleteFunc(values, func(v string) bool {
			return slices.ContainsFunc(m.Values, func(d string) bool {
				return strings.EqualFold(v, d) || directory.NormalizeDN(v) == directory.NormalizeDN(d)
			})
		})
	}
	if i >= 0 {
		le.Attributes = slices.Delete(le.Attributes, i, i+1)
	}
	if len(values) > 0 {
		le.Attributes = append(le.Attributes, ldap.NewEntryAttribute(m.Name, values))
	}
}
