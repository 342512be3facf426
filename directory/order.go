package directory

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dirpost/internal/envelope"
)

// AnyDomain in Rules.Directories stands for every mail domain that is not named.
const AnyDomain = "*"

// rank is where a directory stands in the order for a mail domain, 0 first.
// Directories that are not named come behind those that are, all alike.
func (r *Rules) rank(domain, directory string) int {
	list, ok := r.Directories[domain]
	if !ok {
		list = r.Directories[AnyDomain]
	}
	if i := slices.Index(list, directory); i >= 0 {
		return i
	}
	return len(list)
}

// preferred returns those of several entries with one address, or one login name
// with a domain, whose directory comes first for that domain. Where no order is
// configured that is all of them.
func (s *Snapshot) preferred(all []*Entry, domain string) []*Entry {
	if len(all) < 2 || len(s.rules.Directories) == 0 {
		return all
	}
	var best []*Entry
	first := 0
	for _, e := range all {
		switch r := s.rules.rank(domain, e.Directory); {
		case best == nil || r < first:
			best, first = []*Entry{e}, r
		case r == first:
			best = append(best, e)
		}
	}
	return best
}

// domainOf is the domain of an address or login name in the form of its index, ""
// if it has none.
func domainOf(name string) string {
	return name[strings.LastIndexByte(name, '@')+1:]
}

// validateDirectories reports what is wrong with an order of directories.
func validateDirectories(order map[string][]string) error {
	var errs []error
	for domain, names := range order {
		if d, err := envelope.ParseDomain(domain); domain != AnyDomain && (err != nil || d != domain) {
			errs = append(errs, fmt.Errorf("directories: %q is not a mail domain in lower case, nor %q", domain, AnyDomain))
		}
		for i, name := range names {
			if slices.Contains(names[:i], name) {
				errs = append(errs, fmt.Errorf("directories: %q: %q is there twice", domain, name))
			}
		}
	}
	return errors.Join(errs...)
}
