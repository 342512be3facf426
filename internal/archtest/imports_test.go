package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "dirpost/"

// A rule says what the packages below one path may import of ours. Packages are
// named without the module, "x/..." is x and all below it, and a package may
// always import what lies below itself. The longest matching path rules.
type rule struct {
	packages string
	may      []string
	never    []string // takes away from may
	reason   string
}

var rules = []rule{
	{"cmd/...", []string{"..."}, nil,
		"only cmd knows more than one actor; it joins them"},

	{"auth/...", []string{"auth/...", "directory/...", "internal/..."}, []string{"internal/store", "internal/blob"},
		"auth lies below the servers, and a login never waits for a mailbox"},
	{"auth/krb5", []string{"directory", "internal/gssapi"}, nil,
		"whose a ticket is; what becomes of the login, auth decides"},
	{"auth/factor", []string{"directory", "internal/..."}, []string{"internal/store", "internal/blob"},
		"a part that the page stands on: it knows of no login"},
	{"auth/history", []string{"directory", "internal/..."}, []string{"internal/store", "internal/blob"},
		"it hears of logins as events, after them"},
	{"auth/country", nil, nil,
		"a file, and what it says of an address"},
	{"auth/notice", []string{"directory", "internal/..."}, []string{"internal/store", "internal/blob"},
		"it makes mails, which cmd lets in: auth knows no door"},
	{"directory/...", []string{"directory/...", "internal/..."}, []string{"internal/store", "internal/blob"},
		"the directory lies below everything but internal, and knows no mailboxes"},
	{"directory/filter", nil, nil,
		"grammar has no I/O, and knows no entries"},
	{"directory/descriptor", nil, nil,
		"grammar has no I/O, and knows no entries"},

	{"mta/...", []string{"mta/...", "auth/...", "directory/...", "internal/..."}, nil,
		"the actors never import each other"},
	{"mda/...", []string{"mda/...", "auth/...", "directory/...", "internal/..."}, nil,
		"the actors never import each other"},
	{"mra/...", []string{"mra/...", "auth/...", "directory/...", "internal/..."}, nil,
		"the actors never import each other"},
	{"mta/smtpd", []string{"mta/policy", "mta/intake", "mta/smtpd/...", "auth/...", "directory/...", "internal/..."}, nil,
		"a message passes downwards: smtpd, policy, intake; never the queue"},
	{"mta/smtpd/wire", []string{"internal/envelope"}, nil,
		"grammar has no I/O"},
	{"mta/intake", []string{"mta/queue", "mta/dkim", "mta/dsn", "auth", "directory", "internal/..."}, nil,
		"one door in: it knows the queue it writes to and nobody who calls it"},
	{"mta/queue", []string{"internal/..."}, nil,
		"queue state alone: no decision about routes, no transport"},
	{"mta/route", []string{"internal/..."}, nil,
		"a decision: it returns the way and does not go there"},
	{"mta/remote", []string{"mta/queue", "mta/route", "internal/..."}, nil,
		"a transport sends what it is given where it is told"},
	{"mta/reroute", []string{"mta/queue", "directory", "internal/..."}, nil,
		"what waits and what the directory says of it; the way is the queue manager's to find"},
	{"mta/verify", []string{"mta/queue", "mta/route", "internal/..."}, nil,
		"a question to the next hop, asked by a transport that cmd joins to it"},
	{"mta/qmgr", []string{"mta/queue", "mta/route", "mta/dsn", "internal/..."}, nil,
		"transports and the door in are interfaces that cmd joins to it"},
	{"mta/dsn", []string{"internal/..."}, nil,
		"composition without I/O"},
	{"mta/policy", []string{"mta/policy/...", "auth", "directory", "internal/..."}, nil,
		"policy returns verdicts, somebody else acts on them"},
	{"mda/sieve/...", []string{"mda/sieve/...", "internal/envelope", "internal/message"}, nil,
		"the language decides on values and has no I/O"},
	{"mra/imapd/wire", []string{"internal/envelope"}, nil,
		"grammar has no I/O"},

	{"internal/...", []string{"internal/...", "schema/..."}, nil,
		"internal lies below everything"},
	{"internal/envelope", nil, nil,
		"the vocabulary of all knows nobody"},
	{"internal/event", []string{"internal/envelope"}, nil,
		"every stage emits events, so it may import no stage"},
	{"internal/tracing", []string{"internal/event"}, nil,
		"it knows events, and no stage that emits them"},
	{"internal/message", []string{"internal/envelope"}, nil,
		"grammar has no I/O"},
	{"internal/nonblock", nil, nil,
		"sockets, of whatever is spoken on them"},
	{"internal/postgres", []string{"internal/envelope", "internal/event", "internal/nonblock", "schema/..."}, nil,
		"the database, below all who own tables"},
	{"internal/blob", []string{"internal/envelope", "internal/event", "internal/postgres"}, nil,
		"content knows no mailboxes"},
	{"internal/child", nil, nil,
		"programs of others know nothing of us"},
	{"internal/gssapi", nil, nil,
		"Kerberos knows nothing of mail or directories"},
	{"internal/bench", []string{"internal/blob", "internal/envelope", "internal/message", "internal/nonblock", "internal/postgres", "internal/store"}, nil,
		"it measures any mail system from outside, and beside it the SQL of the store in a bare loop"},
	{"internal/archtest", nil, nil,
		"a test about packages imports none"},

	{"schema/...", nil, nil,
		"embedded files only"},
}

// inTests is what tests of any package may import besides.
var inTests = []string{"internal/testenv", "internal/dialog", "internal/child", "schema/..."}

// testsMay is what the tests of one package may import besides: the parts that
// cmd joins to it, where only the real one shows anything.
var testsMay = map[string][]string{
	"mta/qmgr":   {"mta/remote"}, // the queue, sent over real SMTP
	"mta/verify": {"mta/remote"}, // asked over real SMTP
}

// noIO are packages whose grammar must not touch the outside world.
var noIO = []string{"internal/envelope", "internal/message", "mra/imapd/wire", "mta/smtpd/wire", "mda/sieve/...", "mta/dsn", "directory/filter", "directory/descriptor"}

// io packages of the standard library that noIO packages must not import.
var ioPackages = []string{"net", "net/http", "net/smtp", "os", "os/exec", "crypto/tls", "database/sql", "syscall"}

// A home says which packages may import a module of others.
type home struct {
	module   string
	packages []string
	tests    bool // tests of any package may import it too
	reason   string
}

var homes = []home{
	{"github.com/jackc/pgx/v5", []string{"internal/postgres"}, false, "one place classifies database errors and owns the pools"},
	{"github.com/jackc/puddle/v2", []string{"internal/postgres"}, false, "the pool of pgx"},
	{"github.com/emersion/go-smtp", []string{"internal/testenv", "mta/gateway", "mda/lmtpd", "cmd/dirpost"}, true, "LMTP; the self-check of the demo; the next hop and the client in tests"},
	{"github.com/emersion/go-sasl", []string{"auth/sasl", "mta/remote", "internal/testenv", "cmd/dirpost"}, true, "mechanisms live in auth/sasl; the self-check of the demo logs in"},
	{"github.com/emersion/go-imap/v2", []string{"internal/store", "mra/imapd/...", "cmd/dirpost"}, true, "vocabulary of store and imapd; imapclient in the self-check and in tests"},
	{"github.com/emersion/go-message", []string{"internal/message", "cmd/dirpost"}, true, "builds messages; parsing what arrives is our own"},
	{"github.com/emersion/go-msgauth", []string{"mta/dkim", "mta/authres", "cmd/dirpost"}, true, "DKIM to begin with; the verifier in tests"},
	{"github.com/go-ldap/ldap/v3", []string{"directory/ldap", "directory/join", "cmd/dirpost"}, true, "one package speaks LDAP"},
	{"github.com/go-asn1-ber/asn1-ber", []string{"directory/ldap", "internal/testenv"}, false, "packet limit of go-ldap; the proxy of tests that reads LDAP"},
	{"github.com/jcmturner/gokrb5/v8", []string{"internal/gssapi"}, false, "messages and cryptography of Kerberos; its client takes no context"},
	{"github.com/jcmturner/gofork", []string{"internal/gssapi"}, false, "the encoding of gokrb5's types"},
	{"github.com/xdg-go/scram", []string{"auth/sasl"}, true, "the messages of SCRAM; its client in tests"},
	{"github.com/go-jose/go-jose/v4", []string{"auth/oauth", "internal/testenv"}, true, "signatures and keys of tokens; the issuer of tests"},
	{"github.com/go-webauthn/webauthn", []string{"auth/factor"}, false, "WebAuthn: security keys and passkeys"},
	{"github.com/chromedp", nil, true, "the browser in the acceptance test of the page"},
	{"github.com/oschwald/maxminddb-golang/v2", []string{"auth/country"}, false, "the format of the files that know the countries of addresses"},
	{"rsc.io/qr", []string{"auth/selfservice"}, false, "the picture that authenticator apps scan"},
	{"github.com/miekg/dns", []string{"internal/resolver", "internal/testenv", "cmd/dirpost"}, true, "one resolver; the DNS server of tests; record syntax in dns records"},
	{"github.com/spf13/cobra", []string{"cmd/dirpost"}, false, "the command line"},
	{"github.com/cpuguy83/go-md2man/v2", nil, false, "manual pages, by way of cobra"},
	{"github.com/spf13/pflag", []string{"cmd/dirpost"}, false, "the command line"},
	{"github.com/pelletier/go-toml/v2", []string{"cmd/dirpost"}, true, "the config file"},
	{"github.com/prometheus/client_golang", []string{"..."}, true, "metrics are fields of the component that counts"},
	{"github.com/prometheus/client_model", nil, true, "reading metrics in tests"},
	{"go.opentelemetry.io/proto/otlp", []string{"internal/tracing", "internal/testenv"}, true, "traces; the collector in tests"},
	{"google.golang.org/protobuf", []string{"internal/tracing", "internal/testenv"}, true, "the encoding of traces"},
	{"github.com/klauspost/compress", []string{"internal/blob", "internal/store", "mra/imapd", "directory"}, true, "content, packed rows and IMAP COMPRESS"},
	{"github.com/maypok86/otter/v2", []string{"internal/...", "auth/...", "directory/...", "mta/..."}, true, "caches"},
	{"github.com/pires/go-proxyproto", []string{"mra", "mta/smtpd", "internal/..."}, true, "listeners behind a balancer"},
	{"blitiri.com.ar/go/spf", []string{"mta/authres", "cmd/dirpost"}, true, "SPF; dns check judges a record as receivers do"},
	{"github.com/smallstep/pkcs7", []string{"mra/autoconfig"}, true, "signatures of Apple's profiles"},
	{"github.com/coreos/go-systemd/v22", []string{"cmd/dirpost", "internal/..."}, false, "socket activation and readiness"},
	{"github.com/landlock-lsm/go-landlock", []string{"cmd/dirpost"}, false, "a node gives up access to files; by hand it would want a system call on every thread"},
	{"github.com/pressly/goose/v3", []string{"internal/postgres"}, false, "migrations"},
	{"golang.org/x/crypto", []string{"..."}, true, "the Go project's"},
	{"golang.org/x/net", []string{"..."}, true, "the Go project's"},
	{"golang.org/x/sync", []string{"..."}, true, "the Go project's"},
	{"golang.org/x/sys", []string{"..."}, true, "the Go project's"},
	{"golang.org/x/text", []string{"..."}, true, "the Go project's"},
	{"golang.org/x/time", []string{"..."}, true, "the Go project's"},
}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath   string
	Dir          string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// name is the import path without the module.
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module) }

// packages are all packages, asked for once.
var packages = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-json", module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, err
		}
		pkgs = append(pkgs, p)
	}
})

func list(t *testing.T) []pkg {
	t.Helper()
	pkgs, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return pkgs
}

// matches reports whether the pattern covers name: "..." all, "x/..." x and all
// below it.
func matches(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == root || strings.HasPrefix(name, root+"/")
	}
	return pattern == name
}

func anyMatch(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// ruleFor returns the rule with the longest path that covers name.
func ruleFor(name string) (rule, bool) {
	var best rule
	for _, r := range rules {
		if matches(r.packages, name) && (best.packages == "" || len(strings.TrimSuffix(r.packages, "/...")) > len(strings.TrimSuffix(best.packages, "/..."))) {
			best = r
		}
	}
	return best, best.packages != ""
}

func (r rule) allows(from, to string) bool {
	if strings.HasPrefix(to, from+"/") {
		return true
	}
	return anyMatch(r.may, to) && !anyMatch(r.never, to)
}

// TestImports checks the arrows between our own packages.
func TestImports(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		r, ok := ruleFor(p.name())
		if !ok {
			t.Errorf("%s has no rule: say in internal/archtest what it may import, and why", p.name())
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if ours && !r.allows(p.name(), to) {
				t.Errorf("%s imports %s: %s", p.name(), to, r.reason)
			}
		}
		for _, imp := range append(p.TestImports, p.XTestImports...) {
			to, ours := strings.CutPrefix(imp, module)
			if ours && to != p.name() && !r.allows(p.name(), to) && !anyMatch(inTests, to) && !anyMatch(testsMay[p.name()], to) && !strings.HasPrefix(to, "internal/") {
				t.Errorf("tests of %s import %s: %s", p.name(), to, r.reason)
			}
		}
	}
}

// TestNoIO checks that grammar has no I/O.
func TestNoIO(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		if !anyMatch(noIO, p.name()) {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(ioPackages, imp) {
				t.Errorf("%s imports %s: grammar has no I/O, I/O has no grammar", p.name(), imp)
			}
		}
	}
}

// TestHomes checks that modules of others are imported where they are at home.
func TestHomes(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		check := func(imp string, inTest bool) {
			if !strings.Contains(strings.Split(imp, "/")[0], ".") {
				return // the standard library, or ours
			}
			i := slices.IndexFunc(homes, func(h home) bool { return imp == h.module || strings.HasPrefix(imp, h.module+"/") })
			if i < 0 {
				t.Errorf("%s imports %s, which has no home: say in internal/archtest who may use it, and why", p.name(), imp)
				return
			}
			if h := homes[i]; !anyMatch(h.packages, p.name()) && !(inTest && h.tests) {
				t.Errorf("%s imports %s, at home in %s: %s", p.name(), imp, strings.Join(h.packages, ", "), h.reason)
			}
		}
		for _, imp := range p.Imports {
			check(imp, false)
		}
		for _, imp := range append(p.TestImports, p.XTestImports...) {
			check(imp, true)
		}
	}
}

// TestRules checks the rules themselves: each has a reason and is needed once.
func TestRules(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range rules {
		if r.reason == "" || seen[r.packages] {
			t.Errorf("rule for %s: no reason, or twice", r.packages)
		}
		seen[r.packages] = true
		if path.Clean(r.packages) != r.packages {
			t.Errorf("rule for %s: not a clean path", r.packages)
		}
	}
}
