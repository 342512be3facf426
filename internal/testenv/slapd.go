package testenv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/internal/child"
	"dirpost/schema/ldap"
)

// SlapdServer is a private slapd with Example Corp (schema/ldap/demo.ldif) in it
// and syncprov over it.
type SlapdServer struct {
	URL             string // ldap://
	TLSURL          string // ldaps://
	SocketURL       string // ldapi://
	CAFile          string // PEM
	Base            string // DN of Example Corp
	AdminDN         string // may do everything
	AdminPassword   string
	ServiceDN       string // the mail server's account
	ServicePassword string
	UserPassword    string // of every person

	cfg  child.SlapdConfig
	proc *child.Slapd
}

// slapds counts the servers of this binary.
var slapds atomic.Int64

// Slapd starts a slapd for this test alone; it ends with the test.
func Slapd(t testing.TB) *SlapdServer {
	t.Helper()
	return SlapdWith(t, "", "")
}

// SlapdWith is Slapd with another schema file, in slapd.conf's form, and with
// more entries, in LDIF.
func SlapdWith(t testing.TB, schema, ldif string) *SlapdServer {
	t.Helper()
	s, err := newSlapd(t, schema, ldif, "")
	if err != nil {
		t.Fatalf("private slapd: %v (deploy/install-packages.sh run test installs what is missing)", err)
	}
	t.Cleanup(func() { s.proc.Stop(5 * time.Second) })
	return s
}

// SlapdPolicy is Slapd with password policies (draft-behera-ldap-password-policy),
// of which that with the DN policy is everybody's who has no other, and with more
// entries: the policies are among them.
func SlapdPolicy(t testing.TB, policy, ldif string) *SlapdServer {
	t.Helper()
	s, err := newSlapd(t, "", ldif, policy)
	if err != nil {
		t.Fatalf("private slapd with policies: %v (deploy/install-packages.sh run test installs what is missing)", err)
	}
	t.Cleanup(func() { s.proc.Stop(5 * time.Second) })
	return s
}

func newSlapd(t testing.TB, schema, ldif, policy string) (*SlapdServer, error) {
	programs, err := child.FindSlapd()
	if err != nil {
		return nil, err
	}
	user, err := child.Unprivileged("openldap")
	if err != nil {
		return nil, err
	}
	base, err := scratch()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(base, fmt.Sprintf("ldap%d", slapds.Add(1)))
	if err := child.MakeDir(dir, user); err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// An address of our own on the loopback network: a port that is free there
	// now stays free while the server is down.
	ip := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(255), 1+rand.IntN(254))
	plain, tls := ip+":"+freePort(t, ip), ip+":"+freePort(t, ip)
	cert := Certificate(t, ip, "localhost")
	s := &SlapdServer{
		URL: "ldap://" + plain, TLSURL: "ldaps://" + tls, CAFile: cert.CAFile,
		Base: ldap.Base, AdminDN: "cn=admin," + ldap.Base, AdminPassword: "admin secret",
		ServiceDN: ldap.ServiceDN, ServicePassword: "service secret", UserPassword: "demo",
	}
	s.cfg = child.SlapdConfig{
		Programs: programs, User: user, Dir: dir,
		Suffix: s.Base, RootDN: s.AdminDN, RootPassword: s.AdminPassword,
		Schema: []string{ldap.Schema, schema}, Addresses: []string{plain}, TLSAddresses: []string{tls},
		Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem"),
		Log: filepath.Join(dir, "log"), NoSync: true, Policy: policy,
	}
	s.SocketURL = s.cfg.LDAPI()
	for from, to := range map[string]string{cert.CertFile: s.cfg.Certificate, cert.KeyFile: s.cfg.Key, cert.CAFile: s.cfg.CA} {
		if err := child.CopyFile(from, to, user); err != nil {
			return nil, err
		}
	}
	if err := s.cfg.Configure(); err != nil {
		return nil, err
	}
	people, err := child.SSHA(s.UserPassword)
	if err != nil {
		return nil, err
	}
	service, err := child.SSHA(s.ServicePassword)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.cfg.Load(ctx, ldap.Demo(people, service)+ldif); err != nil {
		return nil, err
	}
	s.proc, err = child.StartSlapd(ctx, s.cfg)
	return s, err
}

// Stop stops the server: connections break, the next are refused.
func (s *SlapdServer) Stop() { s.proc.Stop(5 * time.Second) }

// Start starts the stopped server again, on the same ports and database.
func (s *SlapdServer) Start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	proc, err := child.StartSlapd(ctx, s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.proc = proc
}

// Add adds the entries of an LDIF text while the server is away: the quick way for
// many.
func (s *SlapdServer) Add(t testing.TB, ldif string) {
	t.Helper()
	s.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := s.cfg.Load(ctx, ldif); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
}

// Allow makes the stopped server start again with access rules, in slapd.conf's
// form, before those that it has.
func (s *SlapdServer) Allow(t testing.TB, rules string) {
	t.Helper()
	s.cfg.Access = rules
	if err := s.cfg.Configure(); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
}

// UsePasswordPolicy makes the server start again with a policy for all passwords, of
// the attributes that it is given (slapo-ppolicy(5)), one "name: value" a line.
func (s *SlapdServer) UsePasswordPolicy(t testing.TB, attributes string) {
	t.Helper()
	s.cfg.PasswordPolicy = "cn=policy," + s.Base
	s.Stop()
	if err := s.cfg.Configure(); err != nil {
		t.Fatal(err)
	}
	s.Add(t, "dn: "+s.cfg.PasswordPolicy+"\nobjectClass: device\nobjectClass: pwdPolicy\ncn: policy\npwdAttribute: userPassword\n"+attributes+"\n")
}

// ShowConfig makes the server start again with a configuration, cn=config, that the
// service account may read, and access rules as of Allow.
func (s *SlapdServer) ShowConfig(t testing.TB, rules string) {
	t.Helper()
	s.Stop()
	s.cfg.ConfigReader = s.ServiceDN
	s.Allow(t, rules)
}

// AllowInFront makes the server start again with access rules of its front end, in
// slapd.conf's form, which count where those of its database have nothing to say, and
// with a configuration as of ShowConfig.
func (s *SlapdServer) AllowInFront(t testing.TB, rules string) {
	t.Helper()
	s.cfg.FrontAccess = rules
	s.ShowConfig(t, "")
}

// HideFront makes the server start again with a front end whose rules the service
// account may not read.
func (s *SlapdServer) HideFront(t testing.TB) {
	t.Helper()
	s.cfg.HideFront = true
	s.ShowConfig(t, s.cfg.Access)
}

// SetCertificate makes the server start again with another certificate.
func (s *SlapdServer) SetCertificate(t testing.TB, c Cert) {
	t.Helper()
	s.Stop()
	for from, to := range map[string]string{c.CertFile: s.cfg.Certificate, c.KeyFile: s.cfg.Key} {
		if err := child.CopyFile(from, to, s.cfg.User); err != nil {
			t.Fatal(err)
		}
	}
	s.Start(t)
}

// freePort returns a TCP port that is free on ip.
func freePort(t testing.TB, ip string) string {
	t.Helper()
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
