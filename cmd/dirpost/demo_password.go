package main

import (
	"fmt"
	"os"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
)

// syncPasswords gives all people the password of this run, where the last run
// had another: the one of a demo that others can reach is random. set changes
// those of everybody, and says how many these are.
func (d *demo) syncPasswords(set func() (int, error)) error {
	begin, file := time.Now(), d.path("secrets", "people-now")
	was, err := os.ReadFile(file)
	if err == nil && string(was) == d.password {
		return nil
	}
	if err == nil {
		n, err := set()
		if err != nil {
			return fmt.Errorf("change the password of all people: %w", err)
		}
		d.step(begin, "another password for %d people", n)
	}
	return os.WriteFile(file, []byte(d.password), 0o600)
}

// setPasswords writes value into the attribute of all entries below base that
// match filter.
func setPasswords(conn *goldap.Conn, base, filter, attribute, value string) (int, error) {
	people, err := conn.SearchWithPaging(goldap.NewSearchRequest(base, goldap.ScopeSingleLevel, goldap.NeverDerefAliases, 0, 0, false, filter, []string{"1.1"}, nil), 500)
	if err != nil {
		return 0, err
	}
	for _, p := range people.Entries {
		change := goldap.NewModifyRequest(p.DN, nil)
		change.Replace(attribute, []string{value})
		if err := conn.Modify(change); err != nil {
			return 0, err
		}
	}
	return len(people.Entries), nil
}
