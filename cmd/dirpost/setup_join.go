package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"dirpost/directory/join"
	"dirpost/directory/ldap"
)

// tryJoin looks at the domain, as its administrator where the system is not joined
// yet. Nothing is changed there before all questions are answered.
func (s *setup) tryJoin(ctx context.Context) error {
	d := &s.a.Directory
	if d.Domain == "" {
		d.Domain = ldap.DNSDomain(d.Base)
	}
	if d.Domain == "" {
		return errors.New(`directory.domain: missing: which domain is to be joined? As in domain = "corp.example.com", or --directory-domain`)
	}
	d.Domain = strings.ToLower(strings.TrimSuffix(d.Domain, "."))
	if d.Base == "" {
		d.Base = "DC=" + strings.Join(strings.Split(d.Domain, "."), ",DC=")
	}
	if err := s.checkCA(ctx); err != nil {
		return err
	}
	if len(d.URLs) == 0 {
		found, err := ldap.Discover(ctx, s.dns, d.Domain)
		if err != nil {
			return fmt.Errorf("directory.domain: %w", err)
		}
		if !found.IsAD {
			return fmt.Errorf("directory.domain: %s is no domain of Active Directory: take the kind account", d.Domain)
		}
		s.ok("%s", describeDomain(found))
	}
	if err := s.build(); err != nil {
		return err
	}
	if joined, err := s.isJoined(ctx); err != nil {
		return err
	} else if joined {
		s.prospect = nil
		s.ok("this system is a member already")
		return s.readPeople(ctx, nil)
	}
	return s.lookAtDomain(ctx)
}

// isJoined reports whether there is an account of this system. The error is that
// nobody knows: the database where it stands does not answer.
func (s *setup) isJoined(ctx context.Context) (bool, error) {
	if s.present == nil || s.present.Directory[s.a.Directory.Name].Bind != ldap.BindJoined {
		return false, nil
	}
	db, err := openDatabase(ctx, s.present, s.log)
	if err != nil {
		if start := s.private.start(); start != "" && s.a.Database.Kind == databasePrivate {
			return false, fmt.Errorf("the account in the domain stands in the %w: start it by %s", err, start)
		}
		return false, fmt.Errorf("the account in the domain stands in the %w", err)
	}
	db.Close()
	client, err := s.file.client(s.a.Directory.Name, true, slog.New(slog.DiscardHandler))
	if err != nil {
		return false, err
	}
	defer client.Close()
	return s.present.setMachine(ctx, client, slog.New(slog.DiscardHandler)) == nil, nil
}

// lookAtDomain logs in as the administrator.
func (s *setup) lookAtDomain(ctx context.Context) error {
	d := &s.a.Directory
	if d.Admin == "" {
		d.Admin = "Administrator"
	}
	if d.AdminPassword != "" {
		var secret Secret
		err := secret.UnmarshalText([]byte(d.AdminPassword))
		if err == nil {
			s.admin.Password, err = secret.Resolve()
		}
		if err != nil {
			return fmt.Errorf("directory.admin_password: %w", err)
		}
	}
	if s.admin.Password == "" {
		return errors.New("directory.admin_password: missing: the password of " + d.Admin + ` is needed once, as in admin_password = "file:/root/admin.password", or --directory-admin-password`)
	}
	s.admin.Domain, s.admin.User, s.admin.Name, s.admin.OU, s.admin.Reuse = d.Domain, d.Admin, d.Computer, d.OU, d.Reuse
	s.admin.Host = s.a.Host
	client, err := s.file.client(d.Name, true, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer client.Close()
	limit, cancel := context.WithTimeout(ctx, 2*checkLimit)
	defer cancel()
	s.prospect, err = join.Look(limit, client, s.admin)
	var p *join.Problem
	if errors.As(err, &p) { // what it advises is another command
		return p.Err
	}
	if err != nil {
		return err
	}
	if s.prospect.Exists() && !d.Reuse {
		return fmt.Errorf("the computer account %s exists already (%s, made %s, host %q): directory.reuse takes it over, directory.computer names another", s.prospect.Principal, s.prospect.DN, s.prospect.Made, s.prospect.OtherHost)
	}
	s.ok("%s may look at %s; the computer account will be %s", d.Admin, d.Domain, s.prospect.Principal)
	return s.trust(ctx)
}

// trust decides whom the certificates of the domain controllers may be from, and reads
// the people.
func (s *setup) trust(ctx context.Context) error {
	d := &s.a.Directory
	all := s.prospect.Authorities
	s.authorities = ""
	if d.CA == "" && len(all) > 0 {
		text := ""
		for _, a := range all {
			fmt.Fprintf(s.say, "   The domain names the certificate authority %s, until %s\n     SHA-256 %s\n", a.Certificate.Subject, a.Certificate.NotAfter.UTC().Format(time.DateOnly), a.Fingerprint)
			text += a.PEM()
		}
		if s.ask != nil && !d.Trust {
			var err error
			if d.Trust, err = s.ask.yes(ctx, "Trust it for the servers of this directory", true); err != nil {
				return err
			}
		}
		if d.Trust {
			s.authorities, s.prospect.Reader.CA = text, text
		} else {
			s.note("The certificate authorities of the domain are not trusted: directory.trust does, or 'dirpost join trust' later.")
		}
	}
	return s.readPeople(ctx, &s.prospect.Reader)
}

// member is the membership of this system, for a database that is there.
func (s *setup) member(store *join.Store, client *ldap.Client, node string) *join.Member {
	return &join.Member{Store: store, Directory: s.a.Directory.Name, Controller: client, Node: node, Log: s.log, Spread: join.Spread}
}
