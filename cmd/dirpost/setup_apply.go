package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"dirpost/directory/join"
	"dirpost/internal/postgres"
	"dirpost/mta/dkim"
)

// settle asks whether it shall be done.
func (s *setup) settle(ctx context.Context) (err error) {
	s.result.Accepted = s.isAccepted(ctx)
	if s.ask == nil || s.dryRun {
		return nil
	}
	fmt.Fprintln(s.say)
	if len(s.result.Census) > 0 && !s.a.Accept && !s.result.Accepted {
		if s.a.Accept, err = s.ask.yes(ctx, "Take mail for these people as soon as the server runs?", true); err != nil {
			return err
		}
	}
	go_, err := s.ask.yes(ctx, "Do all this now?", true)
	if err == nil && !go_ {
		err = errors.New("nothing was changed")
	}
	return err
}

// isAccepted reports whether somebody has confirmed the numbers before.
func (s *setup) isAccepted(ctx context.Context) bool {
	if s.present == nil {
		return false
	}
	db, err := openDatabase(ctx, s.present, slog.New(slog.DiscardHandler))
	if err != nil {
		return false // a database that is made anew
	}
	defer db.Close()
	live, err := replicaOf(ctx, s.file, db)
	return err == nil && len(live.Unconfirmed()) == 0
}

// did says what was done.
func (s *setup) did(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.result.Done = append(s.result.Done, text)
	fmt.Fprintf(s.say, "   ✓ %s\n", text)
}

// apply does it: files with secrets, database, schema, account in the domain, signing
// keys, and the configuration at the end. Each step finds what one before has done,
// so that a setup that was interrupted is simply run again.
func (s *setup) apply(ctx context.Context) error {
	fmt.Fprintln(s.say)
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, step := range []func(context.Context) error{s.writeSecrets, s.makeDatabase, s.migrate, s.fill, s.writeConfig, s.writeRequest} {
		if ctx.Err() != nil {
			return errors.New("interrupted: run setup again, it goes on from here")
		}
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lock keeps two from doing it at once. The lock ends with the descriptor.
func (s *setup) lock() (func(), error) {
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: another setup is at work there", dir.Name()), dir.Close())
	}
	if err := cleanUp(dir.Name()); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return func() { _ = dir.Close() }, nil
}

// writeSecrets writes all files but the configuration.
func (s *setup) writeSecrets(context.Context) error {
	for _, f := range s.staged {
		if f.path == s.path {
			continue
		}
		if err := f.write(); err != nil {
			return err
		}
		s.did("wrote %s", f.path)
	}
	return nil
}

// makeDatabase makes the private database. What has begun is finished even when
// somebody presses Ctrl-C: it takes a few seconds.
func (s *setup) makeDatabase(ctx context.Context) error {
	if s.a.Database.Kind != databasePrivate {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), madeWithin)
	defer cancel()
	before := s.private.describe()
	if err := s.private.make(ctx); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	if after := s.private.describe(); after != before {
		s.did("made the database: %s", after)
	}
	return nil
}

// migrate brings the schema up to date.
func (s *setup) migrate(ctx context.Context) error {
	plan, err := postgres.MigratePlan(ctx, s.file.ownerURL())
	if err != nil {
		return fmt.Errorf("database, as its owner: %w", err)
	}
	if err := postgres.Migrate(ctx, s.file.ownerURL(), s.file.databaseRoles(), s.log); err != nil {
		return err
	}
	if len(plan) > 0 {
		s.did("brought the schema up to date: %d migrations", len(plan))
	}
	return nil
}

// fill puts into the database what stands there: the account in the domain, signing
// keys, and that somebody has seen the numbers.
func (s *setup) fill(ctx context.Context) error {
	db, err := openDatabase(ctx, s.file, s.log)
	if err != nil {
		return err
	}
	defer db.Close()
	if s.prospect != nil {
		if err := s.join(ctx, db); err != nil {
			return err
		}
	}
	if err := s.sign(ctx, db); err != nil {
		return err
	}
	if !s.a.Accept || s.result.Accepted {
		return nil
	}
	if err := confirmDomains(ctx, s.file, db, s.result.Census); err != nil {
		return err
	}
	s.result.Accepted = true
	s.did("mail will be taken for %s", strings.Join(s.a.Domains, ", "))
	return nil
}

// join makes the computer account.
func (s *setup) join(ctx context.Context, db *postgres.DB) error {
	sealer, err := s.file.sealer()
	if err != nil {
		return err
	}
	client, err := s.file.client(s.a.Directory.Name, true, s.log)
	if err != nil {
		return err
	}
	defer client.Close()
	m := s.member(join.NewStore(db, sealer, commandHints{ctx, db, s.log}), client, fmt.Sprintf("command/%d", db.NewID()))
	a, err := m.Join(ctx, s.admin)
	var p *join.Problem
	if errors.As(err, &p) {
		return fmt.Errorf("join %s: %w", s.a.Directory.Domain, p.Err)
	}
	if err != nil {
		return fmt.Errorf("join %s: %w", s.a.Directory.Domain, err)
	}
	s.did("joined %s as %s (%s)", a.Domain, a.Principal, a.DN)
	if s.authorities != "" {
		if err := m.Store.SetCA(ctx, m.Directory, s.authorities); err != nil {
			return err
		}
		s.did("the certificate authorities of the domain are trusted")
	}
	if s.a.Directory.ReadDeleted {
		if _, err := m.ReadDeleted(ctx, s.admin); err != nil {
			s.note("Deletions are found by comparing: %v", err)
		} else {
			s.did("the domain tells the account of deletions at once")
		}
	}
	return s.tryLogins(ctx, m)
}

// tryLogins looks whether passwords can be judged with the new account.
func (s *setup) tryLogins(ctx context.Context, m *join.Member) error {
	a, err := m.Store.Load(ctx, m.Directory)
	if err != nil {
		return err
	}
	machine, err := a.Machine()
	if err != nil {
		return err
	}
	client, err := s.file.client(s.a.Directory.Name, true, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.SetMachine(machine); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	if err := client.CheckLogin(ctx); err != nil {
		s.note("Nobody could log in yet: %v", err)
	}
	return nil
}

// sign makes a signing key for each domain that has none.
func (s *setup) sign(ctx context.Context, db *postgres.DB) error {
	sealer, err := s.file.sealer()
	if err != nil {
		return err
	}
	keys := dkim.New(db, sealer, db.Now)
	for _, domain := range s.a.Domains {
		have, err := keys.List(ctx, domain)
		if err != nil {
			return err
		}
		if len(have) > 0 {
			continue
		}
		k, err := keys.Create(ctx, domain, dkim.DefaultSelector(dkim.RSA, time.Now()), dkim.RSA)
		if err != nil {
			return fmt.Errorf("signing key of %s: %w", domain, err)
		}
		s.did("made the signing key %s of %s", k.Selector, domain)
	}
	return nil
}

// writeConfig writes the configuration, when all that it names is there.
func (s *setup) writeConfig(context.Context) error {
	for _, f := range s.staged {
		if f.path != s.path {
			continue
		}
		if err := f.write(); err != nil {
			return err
		}
		if s.text != nil {
			s.did("wrote %s; what it was before is %s.old", f.path, f.path)
		} else {
			s.did("wrote %s", f.path)
		}
	}
	return nil
}

// writeRequest writes the key and the request for the company's authority.
func (s *setup) writeRequest(context.Context) error {
	if !s.waitsForChain() {
		return nil
	}
	path := s.a.Certificate.Key
	key, made, err := keyOf(path)
	if err != nil {
		return err
	}
	if made && s.owner.name != "" {
		if err := os.Chown(path, s.owner.uid, s.owner.gid); err != nil {
			return err
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: s.a.Host}, DNSNames: append([]string{s.a.Host}, s.serviceNames()...),
	}, key)
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}); err != nil {
		return err
	}
	s.result.CSR = s.csrFile()
	if !made {
		if _, err := os.Stat(s.csrFile()); err == nil && !s.result.Changed {
			return nil // the request is with the authority
		}
	}
	if err := (stagedFile{path: s.csrFile(), content: b.Bytes(), mode: 0o644}).write(); err != nil {
		return err
	}
	s.did("wrote the request for the authority, %s", s.csrFile())
	return nil
}
