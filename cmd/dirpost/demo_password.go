package main

import (
	"fmt"
	"os"
	"time"

	"dirpost/internal/child"
	"dirpost/schema/ldap"

	goldap "github.com/go-ldap/ldap/v3"
)

// syncPasswords gives all people the password of this run, where the last run
// had another: the one of a demo that others can reach is random.
func (d *demo) syncPasswords(cfg child.SlapdConfig) error {
	begin, file := time.Now(), d.path("secrets", "people-now")
	was, err := os.ReadFile(file)
	if err == nil && string(was) == d.password {
		return nil
	}
	if err == nil {
		n, err := d.setPasswords(cfg)
		if err != nil {
			return fmt.Errorf("change the password of all people: %w", err)
		}
		d.step(begin, "another password for %d people", n)
	}
	return os.WriteFile(file, []byte(d.password), 0o600)
}

// setPasswords changes the password of everybody who has one.
func (d *demo) setPasswords(cfg child.SlapdConfig) (int, error) {
	hash, err := child.SSHA(d.password)
	if err != nil {
		return 0, err
	}
	conn, err := goldap.DialURL(cfg.LDAPI())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.Bind(demoAdminDN, d.secrets.ldapAdmin); err != nil {
		return 0, err
	}
	people, err := conn.Search(goldap.NewSearchRequest("ou=people,"+ldap.Base, goldap.ScopeSingleLevel, goldap.NeverDerefAliases, 0, 0, false, "(userPassword=*)", []string{"1.1"}, nil))
	if err != nil {
		return 0, err
	}
	for _, p := range people.Entries {
		change := goldap.NewModifyRequest(p.DN, nil)
		change.Replace("userPassword", []string{hash})
		if err := conn.Modify(change); err != nil {
			return 0, err
		}
	}
	return len(people.Entries), nil
}
