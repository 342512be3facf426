package testenv

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"dirpost/internal/child"
)

// ADServer is a private domain controller of Active Directory, by Samba, with
// the people, contacts and groups of ad.ldif in it. The tests of a binary share
// it: they change nothing but accounts of their own.
type ADServer struct {
	Host          string // its name, which no DNS knows: connect to Address
	Address       string // IP address; ports are 88, 389 and 636
	URL           string // ldap://Address
	TLSURL        string // ldaps://Address
	CA            string // PEM
	Base          string // DN of the domain
	Realm         string
	Domain        string // NetBIOS name
	AdminDN       string // may do everything
	AdminPassword string
	UserPassword  string // of every person
	Service       string // sAMAccountName of the mail server's account, an ordinary user
	ServiceDN     string
	ServicePass   string
	Keytab        []byte // with the keys of Service

	cfg child.SambaConfig
}

//go:embed ad.ldif
var adLDIF string

const (
	adBase          = "DC=corp,DC=example"
	adAdminPassword = "Passw0rd.Admin"
	adUserPassword  = "Passw0rd.User"
	adServicePass   = "Passw0rd.Service"
	// adRecipe is raised when what provisionAD does changes.
	adRecipe = "1"
)

// ad is the one of this binary.
var ad = sync.OnceValues(startAD)

// AD returns the domain controller that the tests of this binary share. It is a
// copy of one that was provisioned once for all runs, so that it starts in a
// second or two. Its ports below 1024
// need root or a network of our own, see child.CanBeController.
func AD(t testing.TB) *ADServer {
	t.Helper()
	s, err := ad()
	if err != nil {
		t.Fatalf("private domain controller: %v (deploy/install-packages.sh run ad test installs what is missing)", err)
	}
	return s
}

// extensible is the one of this binary whose schema may be changed.
var extensible = sync.OnceValues(func() (*ADServer, error) {
	return startCopy("ad", "extensible", func(p child.SambaPrograms, dir string) child.SambaConfig {
		cfg := adConfig(p, dir)
		cfg.SchemaUpdates = true
		return cfg
	})
})

// ADExtensible returns a domain controller with the people of AD whose schema
// administrators may add to, as Exchange does. The tests of a binary share it.
func ADExtensible(t testing.TB) *ADServer {
	t.Helper()
	s, err := extensible()
	if err != nil {
		t.Fatalf("private domain controller whose schema may be changed: %v", err)
	}
	return s
}

func startAD() (*ADServer, error) {
	return startDomain("ad", adConfig)
}

// startDomain starts a copy of a domain, whose name in the cache and below our
// directory is name.
func startDomain(name string, config func(child.SambaPrograms, string) child.SambaConfig) (*ADServer, error) {
	return startCopy(name, name, config)
}

// startCopy is startDomain for a copy with a name of its own.
func startCopy(name, as string, config func(child.SambaPrograms, string) child.SambaConfig) (*ADServer, error) {
	if err := child.CanBeController(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	programs, err := child.FindSamba(ctx)
	if err != nil {
		return nil, err
	}
	base, err := scratch()
	if err != nil {
		return nil, err
	}
	pristine, err := cachedAD(ctx, base, programs, name, adRecipe+adLDIF, func(dir string) error { return provisionAD(ctx, config(programs, dir)) })
	if err != nil {
		return nil, err
	}
	cfg := config(programs, filepath.Join(base, as))
	if err := copyTree(ctx, pristine, cfg.Dir); err != nil {
		return nil, err
	}
	if cfg.Address, err = adAddress(); err != nil {
		return nil, err
	}
	s, err := newADServer(cfg, filepath.Join(cfg.Dir, "svc-mail.keytab"))
	if err != nil {
		return nil, err
	}
	_, err = child.StartSamba(ctx, cfg)
	return s, err
}

// newADServer makes a copied domain controller ready to be started at its address.
func newADServer(cfg child.SambaConfig, keytab string) (*ADServer, error) {
	base := adBaseOf(cfg)
	s := &ADServer{
		Host: adHost(cfg), Address: cfg.Address, URL: "ldap://" + cfg.Address, TLSURL: "ldaps://" + cfg.Address,
		Base: base, Realm: cfg.Realm, Domain: cfg.Domain,
		AdminDN: "CN=Administrator,CN=Users," + base, AdminPassword: adAdminPassword, UserPassword: adUserPassword,
		Service: "svc-mail", ServiceDN: "CN=svc-mail,OU=Services," + base, ServicePass: adServicePass, cfg: cfg,
	}
	var err error
	if s.Keytab, err = os.ReadFile(keytab); err != nil {
		return nil, err
	}
	if s.CA, err = adCertificate(cfg.Dir, s.Host, cfg.Address); err != nil {
		return nil, err
	}
	return s, cfg.Configure()
}

// adBaseOf is the DN of the domain.
func adBaseOf(cfg child.SambaConfig) string {
	return "DC=" + strings.ReplaceAll(strings.ToLower(cfg.Realm), ".", ",DC=")
}

// adLDIFOf is what is in the domain: the same people everywhere.
func adLDIFOf(cfg child.SambaConfig) string {
	move := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(s, adBase, adBaseOf(cfg)), "corp.example", strings.ToLower(cfg.Realm))
	}
	return encodedLine.ReplaceAllStringFunc(move(adLDIF), func(line string) string {
		name, value, _ := strings.Cut(line, ":: ")
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return line // the program that reads it says so
		}
		return name + ":: " + base64.StdEncoding.EncodeToString([]byte(move(string(b))))
	})
}

// encodedLine is a value in base64 (RFC 2849).
var encodedLine = regexp.MustCompile(`(?m)^[a-zA-Z]+:: .*$`)

// adHost is the full name of a domain controller.
func adHost(cfg child.SambaConfig) string { return cfg.Host + "." + strings.ToLower(cfg.Realm) }

func adConfig(programs child.SambaPrograms, dir string) child.SambaConfig {
	return child.SambaConfig{
		Programs: programs, Dir: dir, Address: "127.0.0.1", Host: "dc1", Realm: "CORP.EXAMPLE", Domain: "CORP",
		AdminPassword: adAdminPassword, Log: filepath.Join(dir, "log"),
	}
}

// ADAddress returns an address of the loopback network on which a domain
// controller can be started.
func ADAddress(t testing.TB) string {
	t.Helper()
	address, err := adAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// adAddress returns an address of the loopback network on which nobody listens:
// the ports of a domain controller cannot be chosen.
func adAddress() (string, error) {
	for range 20 {
		ip := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(255), 1+rand.IntN(254))
		free := true
		for _, port := range []string{"88", "389", "636"} {
			l, err := net.Listen("tcp", ip+":"+port)
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free {
			return ip, nil
		}
	}
	return "", fmt.Errorf("the ports 88, 389 and 636 are taken on all addresses: does another server listen on 0.0.0.0?")
}

// adCertificate gives the domain controller a certificate of the test authority,
// and returns the authority.
func adCertificate(dir string, names ...string) (ca string, err error) {
	a, err := authority()
	if err != nil {
		return "", err
	}
	cert, key, err := a.Issue(names...)
	if err != nil {
		return "", err
	}
	for name, b := range map[string][]byte{"cert.pem": cert, "key.pem": key, "ca.pem": a.PEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil { // Samba refuses a key that others may read
			return "", err
		}
	}
	return string(a.PEM()), nil
}

// cachedAD returns a directory that provision makes, from the cache if it is there.
// recipe changes when what is in it changes. Test binaries that run at the same
// time wait for the one that makes it.
func cachedAD(ctx context.Context, base string, programs child.SambaPrograms, name, recipe string, provision func(dir string) error) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "dirpost")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(recipe))
	dir := filepath.Join(cache, fmt.Sprintf("%s-%s-%x", name, programs.Version, sum[:4]))
	lock, err := os.OpenFile(filepath.Join(cache, "lock-"+name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	fresh := filepath.Join(base, name+"-fresh")
	defer os.RemoveAll(fresh)
	if err := provision(fresh); err != nil {
		return "", err
	}
	part := dir + ".part" // the cache may lie on another file system
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	if err := copyTree(ctx, fresh, part); err != nil {
		return "", err
	}
	return dir, os.Rename(part, dir)
}

// copyTree copies a directory to one that does not exist.
func copyTree(ctx context.Context, from, to string) error {
	_, err := child.Command{Path: "/bin/cp", Args: []string{"-a", "--reflink=auto", from, to}}.Output(ctx)
	return err
}

// provisionAD makes the domain and fills it. Nothing in it may grow old: the copy
// is used for months.
func provisionAD(ctx context.Context, cfg child.SambaConfig) error {
	if err := cfg.Provision(ctx); err != nil {
		return err
	}
	err := cfg.Tool(ctx, "domain", "passwordsettings", "set", "-H", filepath.Join(cfg.Dir, "private", "sam.ldb"),
		"--min-pwd-age=0", "--max-pwd-age=0", "--history-length=0",
		"--account-lockout-threshold=5", "--account-lockout-duration=60", "--reset-account-lockout-after=60")
	if err != nil {
		return fmt.Errorf("password settings: %w", err)
	}
	base := adBaseOf(cfg)
	if err := cfg.Add(ctx, withPasswords(adLDIFOf(cfg))); err != nil {
		return fmt.Errorf("add people and groups: %w", err)
	}
	// By the rules pwdLastSet takes only 0 and -1.
	err = cfg.Force(ctx, base, "dn: CN=Pia Passwordold,OU=Staff,"+base+"\nchangetype: modify\nreplace: pwdLastSet\npwdLastSet: 130000000000000000\n")
	if err != nil {
		return fmt.Errorf("let a password grow old: %w", err)
	}
	err = cfg.Tool(ctx, "domain", "exportkeytab", filepath.Join(cfg.Dir, "svc-mail.keytab"), "--principal=svc-mail")
	if err != nil {
		return fmt.Errorf("export keytab: %w", err)
	}
	return nil
}

var passwordLine = regexp.MustCompile(`(?m)^unicodePwd: (.*)$`)

// withPasswords writes the passwords of an LDIF file as Active Directory wants
// them, quoted and in UTF-16 ([MS-ADTS] §3.1.1.3.1.5).
func withPasswords(ldif string) string {
	return passwordLine.ReplaceAllStringFunc(ldif, func(line string) string {
		var b []byte
		for _, u := range utf16.Encode([]rune(`"` + passwordLine.FindStringSubmatch(line)[1] + `"`)) {
			b = append(b, byte(u), byte(u>>8))
		}
		return "unicodePwd:: " + base64.StdEncoding.EncodeToString(b)
	})
}

// recycleBin is the optional feature of a forest by which what was deleted keeps its
// attributes and links ([MS-ADTS] §3.1.1.9.1).
const recycleBin = "766ddcd8-acd0-445e-f3b9-a7f9b6744f2a"

// EnableRecycleBin turns the recycle bin on, for good. Windows lets administrators do it
// by the same change of the root DSE, Samba the system itself alone.
func (s *ADServer) EnableRecycleBin(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ldif := "dn:\nchangetype: modify\nadd: enableOptionalFeature\nenableOptionalFeature: CN=Partitions,CN=Configuration," + s.Base + ":" + recycleBin + "\n"
	if err := s.cfg.Modify(ctx, ldif); err != nil {
		t.Fatalf("recycle bin: %v", err)
	}
}

// Restore brings a deleted person back from the recycle bin, as dn, with what it had. Over
// LDAP Samba 4.17 restores tombstones alone: it gives the entry attributes anew that it
// has kept, and fails. So the system itself does it, in the two steps that the one change
// of [MS-ADTS] §3.1.1.5.3.7 consists of.
func (s *ADServer) Restore(t testing.TB, deleted, dn string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rdn, superior, _ := strings.Cut(dn, ",")
	old := "dn:: " + base64.StdEncoding.EncodeToString([]byte(deleted)) + "\nchangetype: "
	for _, change := range []string{"modify\ndelete: isDeleted\n-\nadd: objectCategory\nobjectCategory: CN=Person,CN=Schema,CN=Configuration," + s.Base + "\n", "modrdn\nnewrdn: " + rdn + "\ndeleteoldrdn: 1\nnewsuperior: " + superior + "\n"} {
		if err := s.cfg.Modify(ctx, old+change); err != nil {
			t.Fatalf("restore %s: %v", dn, err)
		}
	}
}
