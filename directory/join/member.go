package join

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"dirpost/directory/ldap"
	"dirpost/internal/gssapi"
)

// Member is the membership of this system in the domain of one directory.
type Member struct {
	Store      *Store
	Directory  string // name in the configuration
	Controller Controller
	Node       string // names this node to the others
	Log        *slog.Logger
	// Spread is how long a new key is known to the nodes before the domain gets
	// it: none of them shall meet a ticket that it cannot open.
	Spread time.Duration
	// RotateEvery is how old the password becomes; 0 is DefaultRotateEvery.
	RotateEvery time.Duration
}

// The times of keys.
const (
	// Spread is how long it takes until each node has read what changed, should
	// the hints get lost.
	Spread = 2 * followEvery
	// oldFor is how long an old key is kept: tickets live for ten hours, and are
	// renewed for a week (the defaults of a domain).
	oldFor = 8 * 24 * time.Hour
	// leaseFor is longer than a change takes.
	leaseFor = 3 * time.Minute
)

// Errors of Member.
var (
	ErrBusy       = errors.New("another node is changing the account in this moment")
	ErrNotManaged = errors.New("the keytab was made elsewhere, and who has made it changes it; 'dirpost join --keytab FILE' takes the new one")
)

// Join joins the domain, and keeps the account and its key.
func (m *Member) Join(ctx context.Context, r Request) (*Stored, error) {
	password := NewPassword()
	id, err := m.Store.Prepare(ctx, m.Directory, Key{Password: password})
	if err != nil {
		return nil, err
	}
	a, k, err := Join(ctx, m.Controller, r, password)
	if exists, ok := errors.AsType[*existsError](err); ok && m.isOurs(ctx, exists.account, id) {
		m.Log.Info("a join that did not end is done again", "account", exists.account.DN)
		r.Reuse = true
		a, k, err = Join(ctx, m.Controller, r, password)
	}
	if err != nil {
		if _, taken := errors.AsType[*takenError](err); !taken {
			m.withdraw(ctx, id)
		}
		return nil, err
	}
	if was, err := m.Store.Load(ctx, m.Directory); err == nil && was.Domain == a.Domain {
		a.CA = was.CA
	}
	if err := m.Store.Promote(context.WithoutCancel(ctx), m.Directory, a, id, k); err != nil {
		return nil, err
	}
	return m.Store.Load(ctx, m.Directory)
}

// withdraw forgets a key that the domain did not take. One that stays does no harm.
func (m *Member) withdraw(ctx context.Context, id int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := m.Store.Withdraw(ctx, m.Directory, id); err != nil {
		m.Log.Debug("key was not forgotten", "directory", m.Directory, "err", err)
	}
}

// isRefusal reports whether a server has said that it did not do what it was asked,
// and not that it does not know.
func isRefusal(err error) bool {
	le, ok := errors.AsType[*goldap.Error](err)
	return ok && le.ResultCode < goldap.ErrorNetwork && le.ResultCode != goldap.LDAPResultOperationsError && le.ResultCode != goldap.LDAPResultOther
}

// isOurs reports whether an account has a password that we had written down before
// that of id: a join ended after the domain had taken it.
func (m *Member) isOurs(ctx context.Context, a Account, id int64) bool {
	keys, err := m.Store.waiting(ctx, m.Directory)
	if err != nil {
		return false
	}
	for _, k := range keys {
		if k.ID == id {
			continue
		}
		s, err := m.Controller.Open(ctx, gssapi.Account{Principal: a.Principal, Realm: a.Realm, Password: k.Password})
		if err == nil {
			s.Close()
			return true
		}
	}
	return false
}

// Import takes a keytab that was made elsewhere. principal chooses one of its
// accounts, "" the only one.
func (m *Member) Import(ctx context.Context, domain, principal, host string, keytab []byte) (*Stored, error) {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	a := Account{Domain: domain, Realm: strings.ToUpper(domain), Host: host, Services: []string{}}
	k := Key{Keytab: keytab}
	entries, err := gssapi.ReadKeytab(keytab)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		switch {
		case !e.Usable || !strings.EqualFold(e.Realm, a.Realm):
		case strings.Contains(e.Principal, "/"): // nobody logs in as a service
			a.Services = union(a.Services, []string{e.Principal})
		case principal == "" || strings.EqualFold(principal, e.Principal):
			names = union(names, []string{e.Principal})
			k.KVNO = max(k.KVNO, e.KVNO)
		}
	}
	if len(names) != 1 {
		return nil, problem(fmt.Errorf("keytab has AES keys of %d accounts in %s (%s), want one", len(names), a.Realm, strings.Join(names, ", ")), "klist -k -e FILE", "dirpost join "+domain+" --keytab FILE --principal NAME")
	}
	a.Principal = names[0]
	s, err := m.Controller.Open(ctx, a.withKey(k))
	if err != nil {
		return nil, fmt.Errorf("log in with the keytab: %w", err)
	}
	defer s.Close()
	of, err := readDomain(ctx, s, domain)
	if err != nil {
		return nil, err
	}
	of.Principal, of.Host, of.Services = a.Principal, a.Host, a.Services
	e, err := findAccount(ctx, s, of.Base, a.Principal)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, fmt.Errorf("%s may not be read", a.Principal)
	}
	of.DN = e.DN
	id, err := m.Store.Prepare(ctx, m.Directory, k)
	if err != nil {
		return nil, err
	}
	if err := m.Store.Promote(ctx, m.Directory, of, id, k); err != nil {
		return nil, err
	}
	return m.Store.Load(ctx, m.Directory)
}

// Rotate gives the account a new password, with the one that it has. A change
// that somebody else began is finished instead.
func (m *Member) Rotate(ctx context.Context) (*Stored, error) {
	mine, err := m.Store.lease(ctx, m.Directory, m.Node, leaseFor)
	if err != nil {
		return nil, err
	}
	if !mine {
		if _, err := m.Store.Load(ctx, m.Directory); err != nil {
			return nil, err
		}
		return nil, ErrBusy
	}
	defer func() { // whoever comes next need not wait for its end
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = m.Store.release(ctx, m.Directory, m.Node)
	}()
	ctx, cancel := context.WithTimeout(ctx, leaseFor-30*time.Second)
	defer cancel()
	a, err := m.Store.Load(ctx, m.Directory)
	if err != nil {
		return nil, err
	}
	if !a.Managed {
		return nil, ErrNotManaged
	}
	if done, err := m.settle(ctx, a); done || err != nil {
		return a, err
	}
	if err := m.change(ctx, a); err != nil {
		return nil, err
	}
	return m.Store.Load(ctx, m.Directory)
}

// settle finishes a change that was begun: if the domain has one of the keys that
// wait, it is the current one.
func (m *Member) settle(ctx context.Context, a *Stored) (done bool, err error) {
	for _, k := range a.pending() {
		err := m.finish(ctx, a, k.ID, k.Password)
		if refused, ok := errors.AsType[*gssapi.RefusedError](err); ok && refused.Code == gssapi.CodePassword {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("finish a change of password: %w", err)
		}
		m.Log.Info("machine password changed", "directory", m.Directory, "account", a.DN, "begun", k.Set)
		again, err := m.Store.Load(ctx, m.Directory)
		if err != nil {
			return false, err
		}
		*a = *again
		return true, nil
	}
	return false, nil
}

// change writes down a new password, gives it to the domain, and writes down that
// it has it. Ended in between, settle finds out how far it came.
func (m *Member) change(ctx context.Context, a *Stored) error {
	current, ok := a.Current()
	if !ok {
		return fmt.Errorf("account %s has no key", a.DN)
	}
	password := NewPassword()
	// The number and the salt are guesses, for nodes that meet a ticket before
	// the end; finish asks.
	next, err := a.makeKey(password, current.Salt, current.KVNO+1, time.Now())
	if err != nil {
		return err
	}
	id, err := m.Store.Prepare(ctx, m.Directory, next)
	if err != nil {
		return err
	}
	select {
	case <-time.After(m.Spread):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s, err := m.Controller.Open(ctx, a.withKey(current.Key))
	if err != nil {
		m.withdraw(ctx, id)
		return a.explainChange(err)
	}
	defer s.Close()
	mod := goldap.NewModifyRequest(a.DN, nil)
	if dn, err := whoIs(ctx, s, a.Account); err == nil {
		mod.DN = dn // it may have been moved
	}
	mod.Delete("unicodePwd", []string{ldap.UnicodePwd(current.Password)})
	mod.Add("unicodePwd", []string{ldap.UnicodePwd(password)})
	if err := s.Modify(ctx, mod); err != nil {
		if isRefusal(err) {
			m.withdraw(ctx, id)
		}
		return a.explainChange(fmt.Errorf("change the password of %s: %w", a.DN, err))
	}
	if err := m.finish(context.WithoutCancel(ctx), a, id, password); err != nil {
		return fmt.Errorf("password of %s was changed: %w", a.DN, err)
	}
	m.Log.Info("machine password changed", "directory", m.Directory, "account", a.DN)
	return nil
}

// finish makes the key of a password that the domain has, tries it, and makes it
// the current one.
func (m *Member) finish(ctx context.Context, a *Stored, id int64, password string) error {
	ctx, cancel := context.WithTimeout(ctx, leaseFor)
	defer cancel()
	s, err := m.Controller.Open(ctx, gssapi.Account{Principal: a.Principal, Realm: a.Realm, Password: password})
	if err != nil {
		return err
	}
	defer s.Close()
	now := a.Account
	now.Controller, now.Level = s.Root.Host, s.Root.Level
	if dn, err := whoIs(ctx, s, now); err == nil {
		now.DN = dn
	}
	k, err := readKey(ctx, s, now, password)
	if err != nil {
		return err
	}
	if err := m.Store.Promote(ctx, m.Directory, now, id, k); err != nil {
		return err
	}
	return m.Store.purge(ctx, m.Directory, oldFor)
}

// whoIs returns the DN of the account now.
func whoIs(ctx context.Context, s *ldap.Session, a Account) (string, error) {
	e, err := findAccount(ctx, s, a.Base, a.Principal)
	if err != nil {
		return "", err
	}
	if e == nil {
		return "", fmt.Errorf("there is no %s", a.Principal)
	}
	return e.DN, nil
}

// explainChange says what to do about a key that the domain does not take.
func (s *Stored) explainChange(err error) error {
	again := "dirpost join " + s.Domain + " --name " + strings.TrimSuffix(s.Principal, "$") + " --reuse"
	refused, ok := errors.AsType[*gssapi.RefusedError](err)
	switch {
	case ok && refused.Code == gssapi.CodePassword:
		return problem(fmt.Errorf("the key of %s does not work any more, somebody has set the account back: %w", s.DN, err), again)
	case ok && refused.Code == gssapi.CodeUnknownClient:
		return problem(fmt.Errorf("%s is gone: %w", s.DN, err), strings.TrimSuffix(again, " --reuse"))
	case ok && refused.Code == gssapi.CodeRevoked:
		return problem(fmt.Errorf("%s is disabled: %w", s.DN, err), `Enable-ADAccount "`+s.DN+`"`, again)
	case ok && refused.Code == gssapi.CodeSkew:
		return problem(err, "timedatectl set-ntp true", "chronyd -q 'server "+s.Domain+" iburst'")
	case goldap.IsErrorWithCode(err, goldap.LDAPResultConstraintViolation):
		return problem(fmt.Errorf("the domain does not take another password yet, or not such a one: %w", err), "Get-ADDefaultDomainPasswordPolicy", "samba-tool domain passwordsettings show")
	}
	return err
}

// Status is how an account stands, by the word of the domain.
type Status struct {
	*Stored
	Age      time.Duration // of the current key
	KVNO     uint32        // of the key in the domain
	DN       string        // where the account is now
	Etypes   int           // msDS-SupportedEncryptionTypes: 8 is AES128, 16 AES256, others are weak
	Missing  []string      // names of our services that the account does not have
	Disabled bool
	Ahead    time.Duration // our clock, of that of the domain controller
	// Told says that the account may read deleted entries, so that the domain tells it
	// of deletions; see [Member.ReadDeleted].
	Told bool
	// Ticket is what came of a ticket for our own account, opened with our keytab:
	// nil is good.
	Ticket error
	// Problem is why the domain could not be asked. The fields above are those of
	// the database then.
	Problem error
}

// Status asks the domain about the account.
func (m *Member) Status(ctx context.Context) (*Status, error) {
	a, err := m.Store.Load(ctx, m.Directory)
	if err != nil {
		return nil, err
	}
	st := &Status{Stored: a, DN: a.DN}
	current, ok := a.Current()
	if !ok {
		st.Problem = problem(fmt.Errorf("there is no key"), "dirpost join "+a.Domain+" --reuse")
		return st, nil
	}
	st.Age = m.Store.db.Now().Sub(current.Set).Round(time.Second)
	s, err := m.Controller.Open(ctx, a.withKey(current.Key))
	if err != nil {
		st.Problem = a.explainChange(err)
		return st, nil
	}
	defer s.Close()
	st.Controller, st.Ahead = s.Root.Host, time.Since(s.Root.Time).Round(time.Second)
	e, err := findAccount(ctx, s, a.Base, a.Principal)
	if err == nil && e == nil {
		err = fmt.Errorf("%s may not be read", a.Principal)
	}
	if err != nil {
		st.Problem = err
		return st, nil
	}
	st.read(e)
	if st.Told, err = s.SeesDeleted(ctx, ldap.SID(e.GetRawAttributeValue("objectSid"))); err != nil {
		st.Problem = err
		return st, nil
	}
	st.Ticket = ownTicket(ctx, a, s.KDC)
	return st, nil
}

func (st *Status) read(e *goldap.Entry) {
	st.DN = e.DN
	kvno, _ := strconv.ParseUint(e.GetAttributeValue("msDS-KeyVersionNumber"), 10, 32)
	st.KVNO = uint32(kvno)
	st.Etypes, _ = strconv.Atoi(e.GetAttributeValue("msDS-SupportedEncryptionTypes"))
	control, _ := strconv.Atoi(e.GetAttributeValue("userAccountControl"))
	st.Disabled = control&uacDisabled != 0
	has := e.GetAttributeValues("servicePrincipalName")
	for _, n := range st.Services {
		if !slices.ContainsFunc(has, func(o string) bool { return strings.EqualFold(o, n) }) {
			st.Missing = append(st.Missing, n)
		}
	}
}

// ownTicket gets a ticket for our own account and opens it.
func ownTicket(ctx context.Context, a *Stored, kdc string) error {
	m, err := a.Machine()
	if err != nil {
		return err
	}
	i, err := gssapi.NewInitiator(gssapi.Account{Principal: m.Principal, Realm: m.Realm, Keytab: m.Keytab, KDCs: []string{kdc}})
	if err != nil {
		return err
	}
	_, err = i.Prove(ctx, gssapi.Account{Principal: m.Principal, Realm: m.Realm, Keytab: m.Tickets})
	return err
}

// Authorities reads the certificate authorities of the domain as our account.
func (m *Member) Authorities(ctx context.Context) ([]Authority, error) {
	a, err := m.Store.Load(ctx, m.Directory)
	if err != nil {
		return nil, err
	}
	k, _ := a.Current()
	s, err := m.Controller.Open(ctx, a.withKey(k.Key))
	if err != nil {
		return nil, a.explainChange(err)
	}
	defer s.Close()
	return readAuthorities(ctx, s, m.Store.db.Now())
}

// A Leaving says what happens to the computer account.
type Leaving uint8

// The ways to leave.
const (
	LeaveDelete  Leaving = iota // it is deleted
	LeaveDisable                // it is disabled
	LeaveAlone                  // the domain is not asked
)

// Leave takes the account out of the domain, with the right of an administrator,
// what ReadDeleted gave it too, and forgets the keys. r needs User and Password, if the domain is asked.
func (m *Member) Leave(ctx context.Context, how Leaving, r Request) error {
	a, err := m.Store.Load(ctx, m.Directory)
	if err != nil {
		return err
	}
	if how != LeaveAlone && !a.Managed {
		return problem(fmt.Errorf("account %s was not made by us", a.DN), "dirpost join leave --keep-account")
	}
	if how != LeaveAlone {
		r.Domain, r.Command = a.Domain, "dirpost join leave"
		s, err := m.Controller.Open(ctx, r.admin())
		if err != nil {
			return r.explainLogin(err)
		}
		defer s.Close()
		m.hideDeleted(ctx, s, a.Account)
		if err := remove(ctx, s, a.Account, how); err != nil {
			if goldap.IsErrorWithCode(err, goldap.LDAPResultInsufficientAccessRights) {
				return problem(fmt.Errorf("%s may not remove %s: %w", r.User, a.DN, err), "dirpost join leave --user ADMIN", "dirpost join leave --keep-account")
			}
			return err
		}
	}
	return m.Store.Forget(ctx, m.Directory)
}

// remove deletes or disables the account. One that is gone is no error.
func remove(ctx context.Context, s *ldap.Session, a Account, how Leaving) error {
	e, err := findAccount(ctx, s, a.Base, a.Principal)
	if err != nil || e == nil {
		return err
	}
	if how == LeaveDelete {
		if err := s.Delete(ctx, e.DN); err != nil {
			return fmt.Errorf("delete %s: %w", e.DN, err)
		}
		return nil
	}
	control, _ := strconv.Atoi(e.GetAttributeValue("userAccountControl"))
	mod := goldap.NewModifyRequest(e.DN, nil)
	mod.Replace("userAccountControl", []string{strconv.Itoa(control | uacDisabled)})
	if err := s.Modify(ctx, mod); err != nil {
		return fmt.Errorf("disable %s: %w", e.DN, err)
	}
	return nil
}
