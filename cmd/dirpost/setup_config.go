package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"dirpost/directory/ldap"
)

// newConfig is a configuration in which nothing is answered yet.
const newConfig = `# Configuration of Dirpost, made by 'dirpost setup', which changes it too and keeps what
# else stands here. 'dirpost config example' shows every key with what it means,
# 'dirpost config check' checks this file. No secret stands in it.

[server]
# The name of this host as others see it.

[domains]
# The domains that mail is accepted for, and where mail for postmaster@ of each goes.

[database]
# PostgreSQL as the role that serves, and as the owner of the schema for 'dirpost migrate'.

# The directory with all people; its name is part of every mailbox's key and never changes.
[directory.NAME]

[auth]
# The networks of the house; from elsewhere fewer ways to log in are open.
`

// edits are what the answers come to in the configuration.
func (s *setup) edits() []tomlEdit {
	set := func(key string, v string) tomlEdit {
		if v == "" {
			return edit(key, nil)
		}
		return edit(key, v)
	}
	list := func(key string, v []string) tomlEdit {
		if len(v) == 0 {
			return edit(key, nil)
		}
		return edit(key, v)
	}
	all := []tomlEdit{set("server.name", s.a.Host)}
	if !s.packaged && (s.present == nil || s.text == nil) {
		all = append(all, edit("server.socket", filepath.Join(filepath.Dir(s.path), "dirpost.sock")))
	}
	if s.present == nil || s.present.Server.SealingKey.String() == "" {
		all = append(all, edit("server.sealing_key", "file:"+s.keyFile()))
	}
	all = append(all, list("domains.local", s.a.Domains), set("domains.postmaster", s.a.Postmaster))
	all = append(all, s.databaseEdits()...)
	all = append(all, s.directoryEdits()...)
	inside := s.a.Inside
	if slices.Contains(inside, everywhere) {
		inside = nil
	}
	all = append(all, list("auth.inside", inside))
	all = append(all, s.certificateEdits()...)
	if len(s.a.Resolvers) > 0 {
		all = append(all, edit("mta.resolvers", s.a.Resolvers))
	}
	return all
}

// keyFile is where the sealing key is; the package has made it there.
func (s *setup) keyFile() string { return filepath.Join(filepath.Dir(s.path), "sealing.key") }

// authorityFile is where an authority is put that somebody trusts by its fingerprint.
func (s *setup) authorityFile() string { return filepath.Join(filepath.Dir(s.path), "ldap-ca.pem") }

// passwordFile is where the password of the directory account is put.
func (s *setup) passwordFile() string { return filepath.Join(filepath.Dir(s.path), "ldap.password") }

func (s *setup) databaseEdits() []tomlEdit {
	switch s.a.Database.Kind {
	case databasePrivate:
		return []tomlEdit{edit("database.url", s.private.url(ownServe)), edit("database.owner_url", s.private.url(ownOwner))}
	case databaseGiven:
		owner := edit("database.owner_url", nil)
		if s.a.Database.OwnerURL != "" {
			owner.value = s.a.Database.OwnerURL
		}
		return []tomlEdit{edit("database.url", s.a.Database.URL), owner}
	}
	return nil
}

func (s *setup) directoryEdits() []tomlEdit {
	d := s.a.Directory
	key := func(name string, v any) tomlEdit {
		if t, ok := v.(string); ok && t == "" {
			v = nil
		}
		if t, ok := v.([]string); ok && len(t) == 0 {
			v = nil
		}
		return tomlEdit{[]string{"directory", d.Name, name}, v}
	}
	domain := d.Domain
	if len(d.URLs) > 0 {
		domain = ""
	}
	all := []tomlEdit{key("urls", d.URLs), key("discover", domain), key("tls", d.TLS), key("ca", d.CA), key("base", d.Base)}
	switch d.Kind {
	case directoryJoin:
		return append(all, key("bind", ldap.BindJoined), key("bind_dn", nil), key("bind_password", nil))
	case directoryAccount:
		password := ""
		if d.BindDN != "" {
			password = s.bindReference()
		}
		all = append(all, key("bind_dn", d.BindDN), key("bind_password", password))
		if s.present != nil && s.present.Directory[d.Name].Bind != "" && s.present.Directory[d.Name].Bind != ldap.BindSimple {
			all = append(all, key("bind", nil))
		}
		return all
	}
	return nil
}

// bindReference is what the configuration refers to for the password: a file beside
// it, or what it has referred to before, or a credential.
func (s *setup) bindReference() string {
	ref := s.a.Directory.BindPassword
	if path, ok := strings.CutPrefix(ref, "file:"); ok && filepath.Dir(path) == filepath.Dir(s.path) || strings.HasPrefix(ref, "credential:") {
		return ref
	}
	if s.present != nil && ref != "" && s.present.Directory[s.a.Directory.Name].BindPassword.String() == ref {
		return ref
	}
	return "file:" + s.passwordFile()
}

func (s *setup) certificateEdits() []tomlEdit {
	c := s.a.Certificate
	switch c.Kind {
	case certificateFiles, certificateCSR:
		return []tomlEdit{
			edit("tls.certificate.#0.chain", c.Chain), edit("tls.certificate.#0.key", c.Key),
			edit("acme.directory", nil), edit("acme.contact", nil), edit("acme.names", nil), edit("acme.ca", nil),
		}
	case certificateACME:
		all := []tomlEdit{edit("tls.certificate", nil), edit("acme.directory", c.ACME), edit("acme.contact", c.Contact), edit("acme.names", s.acmeNames())}
		if c.ACMECA != "" {
			return append(all, edit("acme.ca", c.ACMECA))
		}
		return append(all, edit("acme.ca", nil))
	}
	return nil
}

// acmeNames are the further names to have certificates for: those of the services of
// all domains, and what somebody has added.
func (s *setup) acmeNames() []string {
	all := s.serviceNames()
	if s.present == nil {
		return all
	}
	for _, name := range s.present.ACME.Names {
		_, domain, _ := strings.Cut(name, ".")
		ours := slices.Contains(s.present.Domains.Local, domain) && !slices.Contains(s.a.Domains, domain)
		if !ours && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	if len(all) == len(s.present.ACME.Names) { // somebody may have another order
		same := true
		for _, name := range all {
			same = same && slices.Contains(s.present.ACME.Names, name)
		}
		if same {
			return s.present.ACME.Names
		}
	}
	return all
}

// listeners are the sections of all ports.
func (s *setup) listeners() string {
	var b strings.Builder
	host := s.a.Listen
	if host == "" {
		host = "::"
	}
	for _, l := range []struct {
		port          int64
		protocol, tls string
	}{
		{25, "smtp", "starttls"}, {587, "submission", "starttls"}, {465, "submission", "implicit"},
		{993, "imap", "implicit"}, {995, "pop3", "implicit"}, {443, "http", "implicit"}, {80, "http", "off"},
	} {
		fmt.Fprintf(&b, "\n[[listener]]\naddress = %q\nprotocol = %q\ntls = %q\n", net.JoinHostPort(host, strconv.FormatInt(l.port+s.a.PortBase, 10)), l.protocol, l.tls)
	}
	return b.String()
}

// listenersOf are the sections of a configuration as listeners writes them.
func listenersOf(f *File) string {
	var b strings.Builder
	for _, l := range f.Listener {
		fmt.Fprintf(&b, "\n[[listener]]\naddress = %q\nprotocol = %q\ntls = %q\n", l.Address, l.Protocol, l.TLS)
	}
	return b.String()
}

// base is the text that answers are put into.
func (s *setup) base() []byte {
	if s.text != nil {
		return s.text
	}
	name := s.a.Directory.Name
	if name == "" {
		name = "corp"
	}
	return []byte(strings.Replace(newConfig, "NAME", tomlKey(name), 1))
}

// render is the configuration that the answers come to.
func (s *setup) render() ([]byte, error) {
	text, err := patchTOML(s.base(), s.edits())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	if s.text == nil {
		text = slices.Concat(text, []byte("\n# protocol is smtp (mail from other servers), submission (from our people), imap, pop3 or\n# http.\n"), []byte(strings.TrimPrefix(s.listeners(), "\n")))
	}
	return text, nil
}

// build makes the configuration of the answers so far, with the secrets that are not
// written yet.
func (s *setup) build() error {
	text, err := s.render()
	if err != nil {
		return err
	}
	if s.file, err = decodeConfig(text); err != nil {
		return err
	}
	if err := s.makeSealingKey(); err != nil {
		return err
	}
	if s.sealingKey != nil {
		s.file.Server.SealingKey.held = s.sealingKey
	}
	if d, ok := s.file.Directory[s.a.Directory.Name]; ok {
		if s.bindPassword != "" {
			d.BindPassword.held = []byte(s.bindPassword)
		}
		if d.CA == s.authorityFile() {
			d.heldCA = s.shownCA
		}
		s.file.Directory[s.a.Directory.Name] = d
	}
	if s.databaseURL != "" {
		s.file.Database.URL, s.file.Database.OwnerURL = s.databaseURL, s.ownerURL
	}
	return nil
}

// makeSealingKey makes a key where there is none. One that is there is never made
// anew: what is sealed under another key can never be opened.
func (s *setup) makeSealingKey() error {
	path, ok := strings.CutPrefix(s.file.Server.SealingKey.String(), "file:")
	if !ok || s.sealingKey != nil {
		return nil
	}
	_, err := os.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.present != nil && s.present.Server.SealingKey.String() != "" {
		return fmt.Errorf("server.sealing_key: %s is not there: bring it back from a backup; what is sealed in the database opens with no other", path)
	}
	raw := make([]byte, 32)
	rand.Read(raw) // never fails (crypto/rand)
	s.sealingKey = []byte(base64.StdEncoding.EncodeToString(raw) + "\n")
	s.stage(stagedFile{path: path, content: s.sealingKey, mode: 0o600, owner: s.owner})
	return nil
}

// complete makes the configuration of all answers, and checks it as a server would.
func (s *setup) complete() error {
	if s.a.Database.Kind == databaseGiven {
		var err error
		if s.a.Database.URL, err = s.configURL(s.a.Database.URL, "pgpass", s.owner); err != nil {
			return fmt.Errorf("database.url: %w", err)
		}
		if s.a.Database.OwnerURL != "" {
			if s.a.Database.OwnerURL, err = s.configURL(s.a.Database.OwnerURL, "pgpass.owner", account{}); err != nil {
				return fmt.Errorf("database.owner_url: %w", err)
			}
		}
	}
	if err := s.stagePassword(); err != nil {
		return err
	}
	if s.shownCA != "" && s.a.Directory.CA == s.authorityFile() {
		s.stage(stagedFile{path: s.authorityFile(), content: []byte(s.shownCA), mode: 0o644, keep: true})
	}
	if err := s.build(); err != nil {
		return err
	}
	if err := s.file.validate(); err != nil {
		return err
	}
	text, err := s.render()
	if err != nil {
		return err
	}
	if err := s.checkReadable(); err != nil {
		return err
	}
	s.result.Changed = !bytes.Equal(text, s.text)
	if s.result.Changed {
		s.stage(stagedFile{path: s.path, content: text, mode: 0o640, group: s.owner, keep: true})
	}
	return s.listChanges()
}

// checkReadable looks whether the server's account may read the sealing key, if it is
// there already.
func (s *setup) checkReadable() error {
	path, ok := strings.CutPrefix(s.file.Server.SealingKey.String(), "file:")
	if !ok || s.sealingKey != nil {
		return nil
	}
	if err := s.owner.mayRead(context.Background(), path); err != nil { // asks the kernel alone
		return fmt.Errorf("server.sealing_key: %w", err)
	}
	return nil
}

// stagePassword puts the password of the directory account where the configuration
// refers to, unless it is there.
func (s *setup) stagePassword() error {
	path, ok := strings.CutPrefix(s.bindReference(), "file:")
	if s.a.Directory.Kind != directoryAccount || s.bindPassword == "" || !ok || path != s.passwordFile() {
		return nil
	}
	content := []byte(s.bindPassword + "\n")
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(bytes.TrimRight(was, "\r\n"), bytes.TrimRight(content, "\r\n")) {
		return nil
	}
	s.stage(stagedFile{path: path, content: content, mode: 0o600, owner: s.owner})
	return nil
}

// listChanges says which keys the configuration gets or loses.
func (s *setup) listChanges() error {
	text := s.base()
	if s.text == nil {
		return nil
	}
	for _, e := range s.edits() {
		next, err := patchTOML(text, []tomlEdit{e})
		if err != nil {
			return err
		}
		if bytes.Equal(next, text) {
			continue
		}
		is := ""
		if e.value != nil {
			if is, err = tomlValue(e.value); err != nil {
				return err
			}
		}
		s.result.Changes = append(s.result.Changes, setupChange{strings.ReplaceAll(e.name(), ".#0", ""), is})
		text = next
	}
	return nil
}
