package testenv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/internal/child"
	"dirpost/schema/ldap"
)

// DS389Server is a private 389 Directory Server with Example Corp
// (schema/ldap/demo.ldif) in it, which tells changes by content synchronization.
type DS389Server struct {
	URL             string // ldap://
	TLSURL          string // ldaps://
	CAFile          string // PEM
	Base            string // DN of Example Corp
	AdminDN         string // may do everything, the configuration included
	AdminPassword   string
	ServiceDN       string // the mail server's account
	ServicePassword string
	UserPassword    string // of every person

	cfg  child.DS389Config
	proc *child.DS389
}

// ds389s counts the servers of this binary.
var ds389s atomic.Int64

// DS389 starts a 389 Directory Server for this test alone; it ends with the test. It
// has more entries, in LDIF, beside those of Example Corp. That takes some seconds.
func DS389(t testing.TB, ldif string) *DS389Server {
	t.Helper()
	s, err := newDS389(t, ldif)
	if err != nil {
		t.Fatalf("private 389 Directory Server: %v", err)
	}
	t.Cleanup(s.Stop)
	return s
}

func newDS389(t testing.TB, ldif string) (*DS389Server, error) {
	programs, err := child.FindDS389()
	if err != nil {
		return nil, err
	}
	user, err := child.Unprivileged("dirsrv")
	if err != nil {
		return nil, err
	}
	base, err := scratch()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(base, fmt.Sprintf("ds%d", ds389s.Add(1)))
	if err := child.MakeDir(dir, user); err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ip := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(255), 1+rand.IntN(254))
	cert := Certificate(t, ip, "localhost")
	s := &DS389Server{
		CAFile: cert.CAFile, Base: ldap.Base, AdminDN: "cn=Directory Manager", AdminPassword: "admin secret",
		ServiceDN: ldap.ServiceDN, ServicePassword: "service secret", UserPassword: "demo",
	}
	s.cfg = child.DS389Config{
		Programs: programs, User: user, Dir: dir, Address: ip, Port: freePort(t, ip), TLSPort: freePort(t, ip),
		Suffix: s.Base, RootDN: s.AdminDN, RootPassword: s.AdminPassword, Schema: schema389(ldap.Schema),
		Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem"),
		Log: filepath.Join(dir, "log.txt"),
	}
	s.URL, s.TLSURL = "ldap://"+ip+":"+s.cfg.Port, "ldaps://"+ip+":"+s.cfg.TLSPort
	for from, to := range map[string]string{cert.CertFile: s.cfg.Certificate, cert.KeyFile: s.cfg.Key, cert.CAFile: s.cfg.CA} {
		if err := child.CopyFile(from, to, user); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := s.cfg.Configure(ctx); err != nil {
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
	if err := s.cfg.Load(ctx, withRights389(ldap.Demo(people, service), s.Base, s.ServiceDN)+ldif); err != nil {
		return nil, err
	}
	s.proc, err = child.StartDS389(ctx, s.cfg)
	return s, err
}

// Stop stops the server: connections break, the next are refused.
func (s *DS389Server) Stop() { s.proc.Stop(20 * time.Second) }

// Start starts the stopped server again, on the same ports and database.
func (s *DS389Server) Start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	proc, err := child.StartDS389(ctx, s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.proc = proc
}

// withRights389 lets everybody who has logged in read everything but passwords, the
// service account as much of it as it likes, and people change their password.
func withRights389(ldif, base, service string) string {
	rights := "dn: " + base + "\n" +
		`aci: (targetattr="* || nsUniqueId || entryUUID || nsAccountLock || modifyTimestamp || passwordExpirationTime || accountUnlockTime")(targetfilter="(objectClass=*)")(version 3.0; acl "mail"; allow (read,search,compare) userdn="ldap:///all";)` + "\n" +
		`aci: (targetattr="userPassword")(version 3.0; acl "no passwords"; deny (read,search,compare) userdn="ldap:///all";)` + "\n" +
		`aci: (targetattr="userPassword")(version 3.0; acl "own password"; allow (write) userdn="ldap:///self";)` + "\n"
	limits := "dn: " + service + "\nnsSizeLimit: -1\nnsLookThroughLimit: -1\nnsPagedSizeLimit: -1\n"
	return strings.NewReplacer("dn: "+base+"\n", rights, "dn: "+service+"\n", limits).Replace(ldif)
}

var (
	arcLine  = regexp.MustCompile(`(?m)^objectidentifier (\S+) (\S+)$`)
	spelling = regexp.MustCompile(`(?im)^(attributetype|objectclass) `)
)

// schema389 is a schema file in slapd.conf's form as 389 Directory Server reads it: with
// object identifiers written out, in LDIF.
func schema389(text string) string {
	var arcs []string
	for _, m := range arcLine.FindAllStringSubmatch(text, -1) {
		value := m[2]
		for i := 0; i < len(arcs); i += 2 {
			value = strings.ReplaceAll(value, strings.TrimSuffix(arcs[i], ":")+":", strings.TrimSuffix(arcs[i+1], ".")+".")
		}
		arcs = append(arcs, m[1]+":", value+".")
	}
	text = arcLine.ReplaceAllString(text, "")
	for i := 0; i < len(arcs); i += 2 {
		text = strings.ReplaceAll(text, " "+arcs[i], " "+arcs[i+1])
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		if m := spelling.FindString(line); m != "" {
			line = map[string]string{"attributetype ": "attributeTypes: ", "objectclass ": "objectClasses: "}[strings.ToLower(m)] + line[len(m):]
		}
		out.WriteString(line)
	}
	return out.String()
}
