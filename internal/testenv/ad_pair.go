package testenv

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/internal/child"
)

// ADControllers are domain controllers of one domain, on addresses of their own, with
// the entries of ADServer. A change on one of the writable ones is on the others within a
// second or two. The first is the PDC emulator.
type ADControllers struct {
	First, Second *ADServer
	// ReadOnly is a read-only one, nil where there is none.
	ReadOnly *ADServer
	// Records are the domain in the DNS, as DNS takes them.
	Records []string

	cfgs  []child.SambaConfig
	procs []*child.Samba
}

// layout is what controllers a domain has, beside the first.
type layout struct {
	name   string // in the cache
	site   string // that the others are in, "" for that of the first
	subnet string // its addresses
	// readOnly is whether there is a read-only one beside the second.
	readOnly bool
}

// adPairRecipe is raised when what provision does changes.
const adPairRecipe = "1"

// pairs counts those of this binary.
var pairs atomic.Int64

// ADPair starts two domain controllers for this test alone; they end with it. They
// are copies of ones that were provisioned once for all runs (15 to 60 seconds);
// starting them takes 5 to 15 seconds, so ask for them only where one does not do.
// Beside what AD needs, the package libnss-wrapper.
func ADPair(t testing.TB) *ADControllers {
	t.Helper()
	return controllers(t, layout{name: "ad-pair"})
}

// The sites of ADSites: that of the first controller, and that of the others, in which
// this host is.
const (
	ADFirstSite = "Default-First-Site-Name"
	ADNearSite  = "Bonn"
)

// ADSites starts a domain with two sites for this test alone: the first controller, the
// PDC emulator, is in ADFirstSite, a second and a read-only one in ADNearSite, and so
// is whoever asks from 127.0.0.1. Provisioning takes a minute or two, once for all runs.
func ADSites(t testing.TB) *ADControllers {
	t.Helper()
	return controllers(t, layout{name: "ad-sites", site: ADNearSite, subnet: "127.0.0.1/32", readOnly: true})
}

func controllers(t testing.TB, l layout) *ADControllers {
	t.Helper()
	p, err := newControllers(t, l)
	if err != nil {
		t.Fatalf("private domain controllers: %v (deploy/install-packages.sh run ad test installs what is missing)", err)
	}
	return p
}

func newControllers(t testing.TB, l layout) (*ADControllers, error) {
	if err := child.CanBeController(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	programs, err := child.FindSamba(ctx)
	if err != nil {
		return nil, err
	}
	base, err := scratch()
	if err != nil {
		return nil, err
	}
	pristine, err := cachedAD(ctx, base, programs, l.name, adPairRecipe+adRecipe+adLDIF, func(dir string) error { return l.provision(ctx, programs, dir) })
	if err != nil {
		return nil, err
	}
	// Not one below the other: who cleans up looks for run/samba.pid one level down.
	dir := filepath.Join(base, fmt.Sprintf("pair%d", pairs.Add(1)))
	t.Cleanup(func() {
		for _, one := range []string{"-1", "-2", "-3"} {
			_ = os.RemoveAll(dir + one)
		}
	})
	p := &ADControllers{}
	if err := p.configure(l, programs, func(i int) string { return fmt.Sprintf("%s-%d", dir, i+1) }); err != nil {
		return nil, err
	}
	guids, err := os.ReadFile(filepath.Join(pristine, "guids"))
	if err != nil {
		return nil, err
	}
	p.name(strings.Fields(string(guids)))
	for i, to := range []**ADServer{&p.First, &p.Second, &p.ReadOnly}[:len(p.cfgs)] {
		if err := copyTree(ctx, filepath.Join(pristine, p.cfgs[i].Host), p.cfgs[i].Dir); err != nil {
			return nil, err
		}
		if *to, err = newADServer(p.cfgs[i], filepath.Join(p.cfgs[0].Dir, "svc-mail.keytab")); err != nil {
			return nil, err
		}
	}
	t.Cleanup(p.stop)
	for i := range p.cfgs {
		if err := p.start(ctx, i); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *ADControllers) stop() {
	for i := range p.procs {
		p.Stop(i)
	}
}

// configure makes controllers on free addresses that know each other.
func (p *ADControllers) configure(l layout, programs child.SambaPrograms, dir func(int) string) (err error) {
	n := 2
	if l.readOnly {
		n = 3
	}
	p.cfgs, p.procs = make([]child.SambaConfig, n), make([]*child.Samba, n)
	peers, kdcs := map[string]string{}, []string(nil)
	for i := range p.cfgs {
		cfg := adConfig(programs, dir(i))
		cfg.Host, cfg.ReadOnly = fmt.Sprintf("dc%d", i+1), i == 2
		if i > 0 {
			cfg.Site = l.site
		}
		if cfg.Address, err = adAddress(); err != nil {
			return err
		}
		peers[adHost(cfg)] = cfg.Address
		kdcs = append(kdcs, cfg.Address)
		p.cfgs[i] = cfg
	}
	for i := range p.cfgs {
		p.cfgs[i].Peers, p.cfgs[i].KDCs = peers, map[string][]string{p.cfgs[i].Realm: kdcs}
	}
	return nil
}

// name adds the names by which the controllers replicate, and what the DNS has.
func (p *ADControllers) name(guids []string) {
	domain := strings.ToLower(p.cfgs[0].Realm)
	for i, guid := range guids {
		p.cfgs[0].Peers[guid+"._msdcs."+domain] = p.cfgs[i].Address
		host := adHost(p.cfgs[i])
		for _, service := range []string{"_ldap._tcp.dc._msdcs.", "_kerberos._tcp.dc._msdcs.", "_ldap._tcp.", "_ldap._tcp." + siteOf(p.cfgs[i]) + "._sites.dc._msdcs."} {
			port := 389
			if strings.HasPrefix(service, "_kerberos") {
				port = 88
			}
			p.Records = append(p.Records, fmt.Sprintf("%s%s. 60 IN SRV %d 100 %d %s.", service, domain, i, port, host))
		}
		p.Records = append(p.Records, fmt.Sprintf("%s. 60 IN A %s", host, p.cfgs[i].Address))
	}
	p.Records = append(p.Records, fmt.Sprintf("_ldap._tcp.pdc._msdcs.%s. 60 IN SRV 0 100 389 %s.", domain, adHost(p.cfgs[0])))
}

// Stop stops the first (0) or second (1) controller: connections break, the next
// are refused.
func (p *ADControllers) Stop(i int) {
	if p.procs[i] != nil {
		p.procs[i].Stop(20 * time.Second)
		p.procs[i] = nil
	}
}

// Start starts a stopped controller again, at the same address.
func (p *ADControllers) Start(t testing.TB, i int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := p.start(ctx, i); err != nil {
		t.Fatal(err)
	}
}

func (p *ADControllers) start(ctx context.Context, i int) (err error) {
	p.procs[i], err = child.StartSamba(ctx, p.cfgs[i])
	return err
}

// Replicate has each controller take what the other has of the domain, and returns
// when it has. Without it that happens too, a little later.
func (p *ADControllers) Replicate(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := replicate(ctx, p.cfgs, p.First.Base); err != nil {
		t.Fatal(err)
	}
}

func replicate(ctx context.Context, cfgs []child.SambaConfig, contexts ...string) error {
	for _, nc := range contexts {
		for i := range 2 { // nobody takes anything from a read-only one
			if err := cfgs[0].Replicate(ctx, adHost(cfgs[i]), adHost(cfgs[1-i]), nc); err != nil {
				return fmt.Errorf("replicate %s: %w", nc, err)
			}
		}
	}
	return nil
}

// provision makes the controllers in directories dc1, dc2 … below dir, and a file with
// the names by which they replicate.
func (l layout) provision(ctx context.Context, programs child.SambaPrograms, dir string) error {
	if err := child.MakeDir(dir, child.User{}); err != nil {
		return err
	}
	p := &ADControllers{}
	if err := p.configure(l, programs, func(i int) string { return filepath.Join(dir, fmt.Sprintf("dc%d", i+1)) }); err != nil {
		return err
	}
	if err := provisionAD(ctx, p.cfgs[0]); err != nil {
		return err
	}
	if l.site != "" {
		if err := p.cfgs[0].AddSite(ctx, l.site, l.subnet); err != nil {
			return err
		}
	}
	defer p.stop()
	if _, err := adCertificate(p.cfgs[0].Dir, adHost(p.cfgs[0]), p.cfgs[0].Address); err != nil {
		return err
	}
	if err := p.start(ctx, 0); err != nil {
		return err
	}
	for _, cfg := range p.cfgs[1:] {
		if err := cfg.Join(ctx, adHost(p.cfgs[0])); err != nil {
			return err
		}
	}
	guids, err := replicationNames(ctx, p.cfgs)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "guids"), []byte(strings.Join(guids, "\n")), 0o600); err != nil {
		return err
	}
	// They find each other by these names only: written, and the first started anew.
	p.Stop(0)
	p.name(guids)
	for i := range p.cfgs {
		if _, err := adCertificate(p.cfgs[i].Dir, adHost(p.cfgs[i]), p.cfgs[i].Address); err != nil {
			return err
		}
		if err := p.cfgs[i].Configure(); err != nil {
			return err
		}
		if err := p.start(ctx, i); err != nil {
			return err
		}
	}
	return awaitReplication(ctx, p.cfgs)
}

// awaitReplication replicates everything both ways, as soon as it can be done.
func awaitReplication(ctx context.Context, cfgs []child.SambaConfig) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		err := replicate(ctx, cfgs, adBase, "CN=Configuration,"+adBase)
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Second) // the topology is being computed
	}
}

// siteOf is the site of a controller.
func siteOf(cfg child.SambaConfig) string { return cmp.Or(cfg.Site, ADFirstSite) }

// replicationNames returns the objectGUIDs of the settings of the controllers, as the
// first has them.
func replicationNames(ctx context.Context, cfgs []child.SambaConfig) ([]string, error) {
	var guids []string
	for _, cfg := range cfgs {
		dn := "CN=NTDS Settings,CN=" + strings.ToUpper(cfg.Host) + ",CN=Servers,CN=" + siteOf(cfg) + ",CN=Sites,CN=Configuration," + adBase
		guid, err := cfgs[0].Read(ctx, dn, "objectGUID")
		if err != nil {
			return nil, err
		}
		guids = append(guids, guid)
	}
	return guids, nil
}
