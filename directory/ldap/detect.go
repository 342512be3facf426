package ldap

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// Profiles remembers which profile was chosen for a directory. What counts is what
// it says: several nodes may choose at once.
type Profiles interface {
	// Profile returns the choice, the zero value for none.
	Profile(ctx context.Context, directory string) (directory.Profile, error)
	// Keep takes a choice in place of the one of before, and returns what counts.
	Keep(ctx context.Context, directory, name, why, before string) (directory.Profile, error)
}

// Remember has what Preset "auto" chooses remembered, so that all processes read the
// directory alike. Call it before anything else; without it each process chooses
// anew.
func (c *Client) Remember(p Profiles) { c.profiles = p }

// Choice is which profile a directory is read with, and why.
type Choice struct {
	Profile string
	Why     string
	At      time.Time // when that was chosen, zero: now, or by the configuration
	// Notes are for the administrator: sources that the server does not know, or
	// whose unit is not known.
	Notes []string
}

// detect chooses a profile by what the server says about itself. entries asks
// whether there are entries of a class: where several schemas are loaded, what
// is in use decides.
func detect(s *schema, entries func(class string) (bool, error)) (*profile, string, error) {
	if s.ad {
		p, why := profileOf(PresetAD), "the server says that it is Active Directory"
		for _, mark := range profileOf(PresetADExchange).marks {
			if oid := s.attributes[strings.ToLower(mark.name)]; oid != "" {
				return profileOf(PresetADExchange), fmt.Sprintf("%s, and its schema has %s of Exchange", why, mark.name), nil
			}
		}
		return p, why + ", without the schema of Exchange", nil
	}
	is389 := strings.Contains(s.vendor, "389")
	if !s.known && !is389 {
		return profileOf(PresetOpenLDAP), "its schema may not be read", nil
	}
	var chosen *profile
	var why string
	var others []string
	for _, p := range profiles {
		mark := p.markIn(s)
		if mark == "" {
			continue
		}
		used, err := entries(mark)
		if err != nil {
			return nil, "", err
		}
		switch {
		case !used:
		case chosen == nil:
			chosen, why = p, fmt.Sprintf("there are entries of %s (%s)", mark, s.classes[strings.ToLower(mark)])
		default:
			others = append(others, p.name)
		}
	}
	switch {
	case chosen != nil && len(others) > 0:
		return chosen, why + "; there are also entries of " + strings.Join(others, ", "), nil
	case chosen != nil:
		return chosen, why, nil
	case is389:
		return profileOf(Preset389DS), "the server says that it is " + s.vendor, nil
	}
	return profileOf(PresetOpenLDAP), "no entries of another mail schema are there", nil
}

// markIn returns the class by which p is known and which is in the schema s with
// its own OID, "" if none is.
func (p *profile) markIn(s *schema) string {
	for _, mark := range p.marks {
		if oid := s.classes[strings.ToLower(mark.name)]; oid != "" && strings.HasPrefix(oid, mark.arc) {
			return mark.name
		}
	}
	return ""
}

// learn settles the mapping of c when a server is first reached, by what that
// server is.
func (c *Client) learn(ctx context.Context, nc *conn) error {
	c.learning.Lock()
	defer c.learning.Unlock()
	if c.learned != nil {
		return nil
	}
	s, err := readSchema(ctx, nc, c.cfg.Timeout, c.names())
	if err != nil {
		return fmt.Errorf("directory %q: %w", c.cfg.Name, err)
	}
	choice, err := c.chooseProfile(ctx, nc, s)
	if err != nil {
		return fmt.Errorf("directory %q: %w", c.cfg.Name, err)
	}
	p := profileOf(choice.Profile)
	m, notes, err := compile(c.cfg, p, s)
	if err != nil {
		return fmt.Errorf("directory %q, read as %s: %w", c.cfg.Name, p.name, err)
	}
	if p.ad && m.netbios == "" {
		if m.netbios, err = c.netbiosName(ctx, nc); err != nil {
			return fmt.Errorf("directory %q: %w", c.cfg.Name, err)
		}
	}
	c.mapping.Store(m)
	choice.Notes = append(choice.Notes, notes...)
	c.learned = choice
	c.cfg.Log.Info("directory is read", "directory", c.cfg.Name, "profile", p.name, "why", choice.Why)
	for _, note := range choice.Notes {
		c.cfg.Log.Warn("directory holds something that is not read", "directory", c.cfg.Name, "note", note)
	}
	return nil
}

// chooseProfile says by which profile the directory is read: the configuration's,
// else the one that was chosen once, else what detect finds. What it went by may be
// gone, as when the last mail list is deleted, and the others are still to be read
// as before; only a server of another kind has to be chosen for anew.
func (c *Client) chooseProfile(ctx context.Context, nc *conn, s *schema) (*Choice, error) {
	if p := profileOf(c.cfg.Preset); p != nil {
		return &Choice{Profile: p.name, Why: "the configuration says so"}, nil
	}
	var before directory.Profile
	if c.profiles != nil {
		var err error
		if before, err = c.profiles.Profile(ctx, c.cfg.Name); err != nil {
			return nil, err
		}
	}
	kept := profileOf(before.Name)
	found, why, err := detect(s, func(class string) (bool, error) { return c.hasEntries(ctx, nc, class) })
	switch {
	case kept != nil && kept.ad == s.ad:
		choice := &Choice{Profile: kept.name, Why: before.Why, At: before.At}
		if err == nil && found != kept {
			choice.Notes = append(choice.Notes, fmt.Sprintf("it would be read as %s if it were chosen today, since %s: 'dirpost directory sync --profile auto %s' does so", found.name, why, c.cfg.Name))
		}
		return choice, nil
	case err != nil:
		return nil, err
	case c.profiles == nil:
		return &Choice{Profile: found.name, Why: why}, nil
	}
	now, err := c.profiles.Keep(ctx, c.cfg.Name, found.name, why, before.Name)
	if err != nil {
		return nil, err
	}
	if profileOf(now.Name) == nil { // of another version, or forgotten at this moment
		now = directory.Profile{Name: found.name, Why: why}
	}
	return &Choice{Profile: now.Name, Why: now.Why, At: now.At}, nil
}

// settle learns the profile again before the directory is followed, where what is
// remembered is not what this process goes by: somebody has asked for another choice.
func (c *Client) settle(ctx context.Context) error {
	c.learning.Lock()
	learned := c.learned
	c.learning.Unlock()
	if learned == nil || c.profiles == nil || profileOf(c.cfg.Preset) != nil {
		return nil
	}
	before, err := c.profiles.Profile(ctx, c.cfg.Name)
	if err != nil {
		return err
	}
	if before.Name == learned.Profile {
		return nil
	}
	nc, err := c.read.get(ctx)
	if err != nil {
		return err
	}
	c.learning.Lock()
	c.learned = nil
	c.learning.Unlock()
	err = c.learn(ctx, nc)
	c.read.put(nc, err)
	return err
}

// profile is the choice that was made, nil for none yet.
func (c *Client) profile() *Choice {
	c.learning.Lock()
	defer c.learning.Unlock()
	return c.learned
}

// readAs says as what the directory is read, and why, "" while that is not known.
func (c *Client) readAs() (profile, why string) {
	choice := c.profile()
	switch {
	case choice == nil:
		return "", ""
	case choice.At.IsZero():
		return choice.Profile, choice.Why
	}
	return choice.Profile, choice.Why + "; chosen " + choice.At.UTC().Format(time.DateOnly)
}

// names are all attributes and classes that a profile or the configuration may
// want.
func (c *Client) names() []string {
	seen := map[string]struct{}{}
	var names []string
	add := func(name string) {
		if _, ok := seen[strings.ToLower(name)]; !ok && isAttribute(name) {
			seen[strings.ToLower(name)] = struct{}{}
			names = append(names, name)
		}
	}
	for _, p := range profiles {
		for _, mark := range p.marks {
			add(mark.name)
		}
	}
	tables := []map[string][]string{c.cfg.Mapping}
	for _, p := range profiles {
		if p.ad {
			tables = append(tables, p.fields)
		}
	}
	for _, table := range tables {
		for _, sources := range table {
			for _, text := range sources {
				attribute, _, _ := strings.Cut(text, ":")
				add(attribute)
			}
		}
	}
	return names
}

// hasEntries reports whether there is any entry of a class below the base.
func (c *Client) hasEntries(ctx context.Context, nc *conn, class string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var res *ldap.SearchResult
	err := nc.do(ctx, func() (err error) {
		res, err = nc.Search(ldap.NewSearchRequest(c.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1, 0, false,
			"(objectClass="+ldap.EscapeFilter(class)+")", []string{"1.1"}, nil))
		return err
	})
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded):
		return true, nil
	case err != nil && broken(err):
		return false, fmt.Errorf("look for entries of %s: %w", class, err)
	case err != nil:
		return false, nil
	}
	return len(res.Entries) > 0, nil
}

// Choice connects, if need be, and says which profile the directory is read with.
func (c *Client) Choice(ctx context.Context) (Choice, error) {
	nc, err := c.read.get(ctx)
	if err != nil {
		return Choice{}, err
	}
	c.read.put(nc, nil)
	if choice := c.profile(); choice != nil {
		return *choice, nil
	}
	return Choice{}, fmt.Errorf("directory %q is chosen anew, please try again", c.cfg.Name)
}
