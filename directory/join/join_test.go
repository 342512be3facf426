package join

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"dirpost/directory/ldap"
	"dirpost/internal/gssapi"
	"dirpost/internal/postgres"
	"dirpost/internal/resolver"
	"dirpost/internal/seal"
	"dirpost/internal/testenv"
)

// controller opens connections to s, of which no certificate is known, nor its
// name.
func controller(t testing.TB, s *testenv.ADServer) *ldap.Client {
	t.Helper()
	c, err := ldap.New(ldap.Config{Name: "corp", Bind: ldap.BindJoined, URLs: []string{s.URL}, Base: s.Base, TLS: "none", ConnectTimeout: time.Minute, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// member is a node with the sealing key on db.
func member(t testing.TB, s *testenv.ADServer, db *postgres.DB, key []byte) *Member {
	t.Helper()
	sealer, err := seal.New(key)
	if err != nil {
		t.Fatal(err)
	}
	return &Member{Store: NewStore(db, sealer, nil), Directory: "corp", Controller: controller(t, s), Node: t.Name(), Log: slog.New(slog.DiscardHandler)}
}

func request(s *testenv.ADServer, name string) Request {
	return Request{Domain: "corp.example", User: "Administrator", Password: s.AdminPassword, Host: strings.ToLower(name) + ".corp.example"}
}

// joined is a member that has joined as name.
func joined(t testing.TB, s *testenv.ADServer, name string) (*Member, *Stored) {
	t.Helper()
	m := member(t, s, testenv.Database(t), seal.GenerateKey())
	a, err := m.Join(t.Context(), request(s, name))
	if err != nil {
		t.Fatal(err)
	}
	return m, a
}

// admin is a connection that may do everything.
func admin(t testing.TB, s *testenv.ADServer) *ldap.Session {
	t.Helper()
	c, err := controller(t, s).Open(t.Context(), gssapi.Account{Principal: "Administrator", Realm: s.Realm, Password: s.AdminPassword})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// mit runs a program of MIT Kerberos against s.
func mit(t testing.TB, s *testenv.ADServer, name string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "krb5.conf")
	text := fmt.Sprintf("[libdefaults]\ndefault_realm = %[1]s\ndns_lookup_kdc = false\nrdns = false\nudp_preference_limit = 1\n[realms]\n%[1]s = {\n kdc = %[2]s:88\n}\n", s.Realm, s.Address)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "KRB5_CONFIG="+conf, "KRB5CCNAME=FILE:"+filepath.Join(dir, "cache"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestJoin: a domain is joined with nothing but its name, an address and the
// administrator's password, over connections without any certificate. The keytab
// is good for MIT Kerberos too.
func TestJoin(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	key := seal.GenerateKey()
	m := member(t, s, testenv.Database(t), key)
	r := request(s, "MAIL")
	r.SharedNames = []string{"imap.corp.example"}
	a, err := m.Join(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if a.NetBIOS != s.Domain || a.Base != s.Base || a.Realm != s.Realm || !strings.HasPrefix(a.DomainSID, "S-1-5-21-") || a.Controller != s.Host || a.Level < 2 || !a.Managed {
		t.Errorf("%+v", a.Account)
	}
	e, err := admin(t, s).Read(t.Context(), "CN=MAIL,CN=Computers,"+s.Base, attributes...)
	if err != nil || e == nil {
		t.Fatal(e, err)
	}
	for name, want := range map[string]string{"userAccountControl": "4096", "msDS-SupportedEncryptionTypes": "24", "dNSHostName": "mail.corp.example", "sAMAccountName": "MAIL$"} {
		if got := e.GetAttributeValue(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	names := e.GetAttributeValues("servicePrincipalName")
	for _, service := range []string{"host", "imap", "pop", "smtp", "sieve", "HTTP"} {
		for _, instance := range []string{"mail.corp.example", "MAIL", "imap.corp.example"} {
			if !slices.Contains(names, service+"/"+instance) {
				t.Errorf("no %s/%s among %v", service, instance, names)
			}
		}
	}
	k, ok := a.Current()
	if !ok || len(k.Password) != 120 {
		t.Errorf("%v, a password of %d characters", ok, len(k.Password))
	}

	keytab := filepath.Join(t.TempDir(), "keytab")
	all, err := a.Keytab()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keytab, all, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", mit(t, s, "klist", "-k", "-e", keytab))
	mit(t, s, "kinit", "-k", "-t", keytab, "MAIL$")

	st, err := m.Status(t.Context())
	if err != nil || st.Problem != nil || st.Ticket != nil || st.KVNO != k.KVNO || st.Etypes != 24 || len(st.Missing) > 0 || st.Disabled || st.Ahead.Abs() > time.Minute {
		t.Errorf("%+v, %v", st, err)
	}
	// Another node has the sealing key and nothing else; one without does not.
	other := member(t, s, m.Store.db, key)
	if st, err := other.Status(t.Context()); err != nil || st.Problem != nil || st.Ticket != nil {
		t.Errorf("another node: %+v, %v", st, err)
	}
	if _, err := member(t, s, m.Store.db, seal.GenerateKey()).Status(t.Context()); !errors.Is(err, seal.ErrNoKey) || !strings.Contains(err.Error(), "server.sealing_key") {
		t.Errorf("without the sealing key: %v", err)
	}
	var dump string
	err = m.Store.db.QueryRow(t.Context(), postgres.Interactive, `select string_agg(a::text, '') || (select string_agg(encode(sealed, 'escape') || encode(sealed, 'base64'), '') from machine_key) from machine_account a`).Scan(&dump)
	if err != nil || strings.Contains(dump, k.Password) || strings.Contains(dump, s.AdminPassword) || strings.Contains(dump, base64.StdEncoding.EncodeToString(k.Keytab[40:70])) {
		t.Errorf("a secret stands in the database: %v", err)
	}
}

// TestJoinProblems: whatever keeps a join from being done is said with the command
// that helps, and leaves no key behind.
func TestJoinProblems(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	ctx, adm := t.Context(), admin(t, s)
	if _, _, err := Join(ctx, controller(t, s), request(s, "TAKEN"), NewPassword()); err != nil {
		t.Fatal(err)
	}
	holder := goldap.NewAddRequest("CN=svc-old,OU=Services,"+s.Base, nil)
	holder.Attribute("objectClass", []string{"user"})
	holder.Attribute("sAMAccountName", []string{"svc-old"})
	holder.Attribute("servicePrincipalName", []string{"imap/twice.corp.example", "smtp/twice.corp.example"})
	if err := adm.Add(ctx, holder); err != nil {
		t.Fatal(err)
	}
	user := func(r *Request) { r.User, r.Password = s.Service, s.ServicePass }
	tests := []struct {
		name   string
		change func(*Request)
		want   []string // parts of the error
	}{
		{"exists", func(r *Request) { r.Host = "taken.corp.example" }, []string{"computer account TAKEN$ exists already: CN=TAKEN,CN=Computers,", `host "taken.corp.example"`, "dirpost join corp.example --reuse"}},
		{"is no computer", func(r *Request) { r.Name = "SVC-DOLLAR" }, []string{"is no computer", "--name ANOTHER"}},
		{"is a domain controller", func(r *Request) { r.Name, r.Reuse = "DC1", true }, []string{"is a domain controller", "--name ANOTHER"}},
		{"wrong password", func(r *Request) { r.Password = "wrong" }, []string{"the password of Administrator@CORP.EXAMPLE is wrong", "try: dirpost join corp.example"}},
		{"unknown administrator", func(r *Request) { r.User = `CORP\nobody` }, []string{"there is no account nobody@CORP.EXAMPLE", "--user NAME"}},
		{"locked administrator", func(r *Request) { r.User, r.Password = "dave", s.UserPassword }, []string{"dave@CORP.EXAMPLE may not log in now", "Unlock-ADAccount dave"}},
		{"administrator who must change", func(r *Request) { r.User, r.Password = "mia@corp.example", s.UserPassword }, []string{"must be changed first", "kpasswd mia@CORP.EXAMPLE"}},
		{"no right", user, []string{"svc-mail may not make computers in CN=Computers,DC=corp,DC=example (ms-DS-MachineAccountQuota is 10)",
			`try: dsacls "CN=Computers,DC=corp,DC=example" /G "CORP\svc-mail:CC;computer"`, `--ou "OU=WHERE IT MAY,DC=corp,DC=example"`,
			`New-ADComputer -Name PROBLEM -Path "CN=Computers,DC=corp,DC=example"`, `samba-tool computer create PROBLEM --computerou="CN=Computers"`, "--reuse --user ADMIN"}},
		{"no right to take over", func(r *Request) { user(r); r.Host, r.Reuse = "taken.corp.example", true }, []string{"svc-mail may not take over CN=TAKEN,CN=Computers,",
			`try: dsacls "CN=TAKEN,CN=Computers,DC=corp,DC=example" /G "CORP\svc-mail:CA;Reset Password"`}},
		{"no such OU", func(r *Request) { r.OU = "OU=Nowhere," + s.Base }, []string{"OU=Nowhere,DC=corp,DC=example does not exist", "--ou"}},
		{"service of another", func(r *Request) { r.Host = "twice.corp.example" }, []string{"imap/twice.corp.example, smtp/twice.corp.example belongs to svc-old already (CN=svc-old,OU=Services,",
			"try: setspn -D imap/twice.corp.example svc-old && setspn -D smtp/twice.corp.example svc-old"}},
		{"another domain", func(r *Request) { r.Domain = "other.example" }, []string{"KDC"}},
		{"no domain", func(r *Request) { r.Domain = "corp" }, []string{"no full host name"}},
		{"a host with a slash", func(r *Request) { r.Host = "mail.corp.example/evil" }, []string{"no full host name"}},
		{"a name that is too long", func(r *Request) { r.Name = "ABCDEFGHIJKLMNOP" }, []string{"no name for a computer"}},
		{"an OU that is none", func(r *Request) { r.OU = "Servers" }, []string{"is no DN"}},
	}
	odd := goldap.NewAddRequest("CN=odd,OU=Services,"+s.Base, nil)
	odd.Attribute("objectClass", []string{"user"})
	odd.Attribute("sAMAccountName", []string{"SVC-DOLLAR$"})
	if err := adm.Add(ctx, odd); err != nil {
		t.Fatal(err)
	}
	m := member(t, s, testenv.Database(t), seal.GenerateKey())
	for _, tt := range tests {
		r := request(s, "PROBLEM")
		tt.change(&r)
		_, err := m.Join(ctx, r)
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\nwant %q", tt.name, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), r.Password) && r.Password != "wrong" {
			t.Errorf("%s: the error quotes the password", tt.name)
		}
	}
	if keys, err := m.Store.waiting(ctx, "corp"); err != nil || len(keys) > 0 {
		t.Errorf("%d keys are left, %v", len(keys), err)
	}
	nobody, err := ldap.New(ldap.Config{Name: "corp", Bind: ldap.BindJoined, URLs: []string{"ldap://127.0.0.1:1"}, Base: s.Base, TLS: "none"})
	if err != nil {
		t.Fatal(err)
	}
	m.Controller = nobody
	if _, err := m.Join(ctx, request(s, "PROBLEM")); err == nil || !strings.Contains(err.Error(), "dig +short SRV _ldap._tcp.dc._msdcs.corp.example") || !strings.Contains(err.Error(), "--server HOST") {
		t.Errorf("no domain controller: %v", err)
	}
}

// TestJoinByDNS: the domain's name and a name server are enough, and one that knows
// no domain controllers is named with the command that shows it.
func TestJoinByDNS(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	try := func(name string, records ...string) error {
		dns, err := resolver.New(resolver.Config{Servers: []string{testenv.DNS(t, records...).Addr}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := ldap.New(ldap.Config{Name: "corp", Bind: ldap.BindJoined, Discover: "corp.example", Resolver: dns, Base: s.Base, TLS: "none", ConnectTimeout: time.Minute, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _, err = Join(t.Context(), c, request(s, name), NewPassword())
		return err
	}
	if err := try("FOUND", "_ldap._tcp.dc._msdcs.corp.example. 60 IN SRV 0 100 389 "+s.Host+".", s.Host+". 60 IN A "+s.Address); err != nil {
		t.Error(err)
	}
	if err := try("LOST"); err == nil || !strings.Contains(err.Error(), "try: dig +short SRV _ldap._tcp.dc._msdcs.corp.example") {
		t.Errorf("%v", err)
	} else {
		t.Log(err)
	}
}

// TestWindowsProblems: what Samba does not say, in the words of Windows.
func TestWindowsProblems(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	adm := admin(t, s)
	r, err := request(s, "W").withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	a := Account{NetBIOS: "CORP", Base: s.Base, Host: "w.corp.example", DN: "CN=W," + s.Base}
	windows := func(code uint16, text string) error { return goldap.NewError(code, errors.New(text)) }
	for _, tt := range []struct {
		err  error
		want string
	}{
		{windows(goldap.LDAPResultUnwillingToPerform, "0000216D: SvcErr: DSID-031A1254, problem 5003 (WILL_NOT_PERFORM), data 0"), "as many computers as an ordinary user may (ms-DS-MachineAccountQuota is 10)"},
		{windows(goldap.LDAPResultConstraintViolation, "000021C7: AtrErr: DSID-03200BBA"), "setspn -F -Q imap/w.corp.example"},
		{windows(goldap.LDAPResultEntryAlreadyExists, "00000524: UpdErr: DSID-031A11E2"), "--name ANOTHER"},
		{windows(goldap.LDAPResultBusy, "later"), "make CN=W,"},
	} {
		if got := r.explainAdd(t.Context(), adm, tt.err, a, "CN=Computers,"+s.Base); !strings.Contains(got.Error(), tt.want) || !errors.Is(got, tt.err) {
			t.Errorf("%v\nwant %q", got, tt.want)
		}
	}
	skew := &gssapi.RefusedError{Code: gssapi.CodeSkew, Skew: 11 * time.Minute}
	if got := r.explainLogin(fmt.Errorf("log in: %w", skew)); !strings.Contains(got.Error(), "11m0s ahead of that of the KDC") || !strings.Contains(got.Error(), "timedatectl set-ntp true") {
		t.Errorf("%v", got)
	}
}

// grant lets an account do something to an entry, as dsacls does.
func grant(t testing.TB, s *testenv.ADServer, dn string, aces ...string) {
	t.Helper()
	e, err := admin(t, s).Read(t.Context(), s.ServiceDN, "objectSid")
	if err != nil {
		t.Fatal(err)
	}
	sid := ldap.SID(e.GetRawAttributeValue("objectSid"))
	for _, ace := range aces {
		out, err := exec.CommandContext(t.Context(), "samba-tool", "dsacl", "set", "-H", s.URL, "-U", "CORP/Administrator%"+s.AdminPassword,
			"--objectdn", dn, "--sddl", "("+ace+";;"+sid+")").CombinedOutput()
		if err != nil {
			t.Fatalf("samba-tool dsacl: %v: %s", err, out)
		}
	}
}

// Rights in the language of security descriptors: what dsacls in our advice grants.
const (
	createComputers  = "OA;CI;CC;bf967a86-0de6-11d0-a285-00aa003049e2"
	resetPassword    = "OA;;CR;00299570-246d-11d0-a768-00aa006e0529"
	restrictions     = "OA;;WP;4c164200-20c0-11d0-a768-00aa006e0529"
	writeHost        = "OA;;WP;72e39547-7b18-11d1-adef-00c04fd8d5cd"
	writeServices    = "OA;;WP;f3a64788-5306-11d1-a9c5-0000f80367c1"
	writeEtypes      = "OA;;WP;20119867-1d04-4ab7-9371-cfc3d5df0afd"
	computerDefaults = "4128" // WORKSTATION_TRUST and PASSWD_NOTREQD, as New-ADComputer has them
)

// TestDelegated: an ordinary user joins into an OU where that was delegated, and
// takes over an account that was made before, as our advice says.
func TestDelegated(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	ctx, adm := t.Context(), admin(t, s)
	ou := "OU=Delegated," + s.Base
	add := goldap.NewAddRequest(ou, nil)
	add.Attribute("objectClass", []string{"organizationalUnit"})
	if err := adm.Add(ctx, add); err != nil {
		t.Fatal(err)
	}
	grant(t, s, ou, createComputers)
	m := member(t, s, testenv.Database(t), seal.GenerateKey())
	r := request(s, "DELEGATED")
	r.User, r.Password, r.OU = s.Service, s.ServicePass, ou
	if a, err := m.Join(ctx, r); err != nil || a.DN != "CN=DELEGATED,"+ou {
		t.Fatalf("%+v, %v", a, err)
	}
	if st, err := m.Status(ctx); err != nil || st.Problem != nil || st.Ticket != nil || len(st.Missing) > 0 {
		t.Errorf("%+v, %v", st, err)
	}

	made := "CN=MADE,CN=Computers," + s.Base
	add = goldap.NewAddRequest(made, nil)
	add.Attribute("objectClass", []string{"computer"})
	add.Attribute("sAMAccountName", []string{"MADE$"})
	add.Attribute("userAccountControl", []string{computerDefaults})
	if err := adm.Add(ctx, add); err != nil {
		t.Fatal(err)
	}
	grant(t, s, made, resetPassword, restrictions, writeHost, writeServices, writeEtypes)
	m = member(t, s, testenv.Database(t), seal.GenerateKey())
	r = request(s, "MADE")
	r.User, r.Password, r.Reuse = s.Service, s.ServicePass, true
	if a, err := m.Join(ctx, r); err != nil || a.DN != made {
		t.Fatalf("%+v, %v", a, err)
	}
	if st, err := m.Status(ctx); err != nil || st.Problem != nil || st.Ticket != nil || len(st.Missing) > 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestImport: a keytab that was made elsewhere serves, and is not changed by us.
func TestImport(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	m := member(t, s, testenv.Database(t), seal.GenerateKey())
	a, err := m.Import(t.Context(), "CORP.example", "", "mail.corp.example", s.Keytab)
	if err != nil {
		t.Fatal(err)
	}
	if a.Principal != s.Service || a.Managed || !strings.EqualFold(a.DN, s.ServiceDN) {
		t.Errorf("%+v", a.Account)
	}
	st, err := m.Status(t.Context())
	if err != nil || st.Problem != nil {
		t.Errorf("%+v, %v", st, err)
	}
	if st.Ticket == nil || !strings.Contains(st.Ticket.Error(), "setspn -S") { // an ordinary user is no service
		t.Errorf("%v", st.Ticket)
	}
	if _, err := m.Rotate(t.Context()); !errors.Is(err, ErrNotManaged) {
		t.Errorf("%v", err)
	}
	if err := m.Leave(t.Context(), LeaveDelete, request(s, "X")); err == nil || !strings.Contains(err.Error(), "--keep-account") {
		t.Errorf("%v", err)
	}
	if _, err := m.Import(t.Context(), "corp.example", "MAIL$", "", s.Keytab); err == nil || !strings.Contains(err.Error(), "of 0 accounts") {
		t.Errorf("%v", err)
	}
	if _, err := m.Import(t.Context(), "corp.example", "", "", []byte("x")); err == nil {
		t.Error("a keytab that is none")
	}
}

// TestAuthorities: certificate authorities of the domain are read over the sealed
// connection.
func TestAuthorities(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	ctx, adm := t.Context(), admin(t, s)
	m, _ := joined(t, s, "TRUST")
	before, err := m.Authorities(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := Certificates(s.CA)
	if err != nil {
		t.Fatal(err)
	}
	services := "CN=Public Key Services,CN=Services,CN=Configuration," + s.Base
	for _, e := range []struct{ dn, class string }{{services, "container"}, {"CN=Certification Authorities," + services, "container"}} {
		add := goldap.NewAddRequest(e.dn, nil)
		add.Attribute("objectClass", []string{e.class})
		if err := adm.Add(ctx, add); err != nil && !goldap.IsErrorWithCode(err, goldap.LDAPResultEntryAlreadyExists) {
			t.Fatal(err)
		}
	}
	add := goldap.NewAddRequest("CN=Test,CN=Certification Authorities,"+services, nil)
	add.Attribute("objectClass", []string{"certificationAuthority"})
	add.Attribute("cACertificate", []string{string(pem[0].Certificate.Raw)})
	add.Attribute("authorityRevocationList", []string{"\x00"})
	add.Attribute("certificateRevocationList", []string{"\x00"})
	if err := adm.Add(ctx, add); err != nil {
		t.Fatal(err)
	}
	all, err := m.Authorities(ctx)
	if err != nil || len(before) != 0 || len(all) != 1 || all[0].Fingerprint != pem[0].Fingerprint || len(all[0].Fingerprint) != 95 {
		t.Fatalf("%+v, %v", all, err)
	}
	if err := m.Store.SetCA(ctx, m.Directory, all[0].PEM()); err != nil {
		t.Fatal(err)
	}
	// From then on StartTLS with the domain's own certificate is trusted.
	a, err := m.Store.Load(ctx, m.Directory)
	if err != nil {
		t.Fatal(err)
	}
	account, err := a.Machine()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ldap.New(ldap.Config{Name: "corp", Bind: ldap.BindJoined, Passwords: ldap.PasswordsLDAP, URLs: []string{s.URL}, ServerName: s.Host, Base: s.Base, ConnectTimeout: time.Minute, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetMachine(account); err != nil {
		t.Fatal(err)
	}
	if err := c.CheckLogin(ctx); err != nil {
		t.Error(err)
	}
	if _, err := m.Join(ctx, func() Request { r := request(s, "TRUST"); r.Reuse = true; return r }()); err != nil {
		t.Fatal(err)
	}
	if again, err := m.Store.Load(ctx, m.Directory); err != nil || again.CA != all[0].PEM() {
		t.Errorf("joined again, the authority is forgotten: %v", err)
	}
}

// TestLeave: the account is deleted or disabled, and the keys are forgotten.
func TestLeave(t *testing.T) {
	t.Parallel()
	s := testenv.AD(t)
	ctx, adm := t.Context(), admin(t, s)
	for _, tt := range []struct {
		name string
		how  Leaving
		want string // userAccountControl
	}{{"LEFT", LeaveDelete, ""}, {"ASLEEP", LeaveDisable, "4098"}, {"ALONE", LeaveAlone, "4096"}} {
		m, a := joined(t, s, tt.name)
		r := request(s, tt.name)
		if tt.how == LeaveDelete {
			r.User, r.Password = s.Service, s.ServicePass
			if err := m.Leave(ctx, tt.how, r); err == nil || !strings.Contains(err.Error(), "dirpost join leave --user ADMIN") {
				t.Errorf("%s by who may not: %v", tt.name, err)
			}
			r = request(s, tt.name)
		}
		if err := m.Leave(ctx, tt.how, r); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if _, err := m.Store.Load(ctx, m.Directory); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", tt.name, err)
		}
		e, err := adm.Read(ctx, a.DN, "userAccountControl")
		if err != nil || (e == nil) != (tt.want == "") || e != nil && e.GetAttributeValue("userAccountControl") != tt.want {
			t.Errorf("%s: %+v, %v", tt.name, e, err)
		}
	}
}

func TestComputerName(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"mail.corp.example": "MAIL", "a-very-long-name-indeed.example": "A-VERY-LONG-NAM", "x_y.example": "XY", "": "", "-.example": "",
	} {
		if got := ComputerName(host); got != want {
			t.Errorf("ComputerName(%q) = %q, want %q", host, got, want)
		}
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	p := NewPassword()
	if len(p) != 120 || p == NewPassword() {
		t.Errorf("%d characters", len(p))
	}
	if got := ldap.UnicodePwd("aé"); !bytes.Equal([]byte(got), []byte{'"', 0, 'a', 0, 0xe9, 0, '"', 0}) {
		t.Errorf("%x", got)
	}
}

// silence is a KDC and domain controller that takes connections and says nothing.
func silence(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// TestSilence: a domain controller that says nothing ends with the context, and
// nothing is left.
func TestSilence(t *testing.T) {
	t.Parallel()
	c, err := ldap.New(ldap.Config{Name: "corp", Bind: ldap.BindJoined, URLs: []string{"ldap://" + silence(t)}, Base: "DC=corp,DC=example", TLS: "none"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	r := Request{Domain: "corp.example", User: "Administrator", Password: "x", Host: "mail.corp.example"}
	if _, _, err := Join(ctx, c, r, NewPassword()); err == nil {
		t.Error("joined")
	}
}
