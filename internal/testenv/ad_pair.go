package testenv

import (
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

// ADControllers are two writable domain controllers of one domain, in one site, on
// addresses of their own, with the entries of ADServer. A change on either is on
// the other within a second or two. The first is the PDC emulator.
type ADControllers struct {
	First, Second *ADServer
	// Records are the domain in the DNS, as DNS takes them.
	Records []string

	cfgs  [2]child.SambaConfig
	procs [2]*child.Samba
}

// adPairRecipe is raised when what provisionPair does changes.
const adPairRecipe = "1"

// pairs counts those of this binary.
var pairs atomic.Int64

// ADPair starts two domain controllers for this test alone; they end with it. They
// are copies of ones that were provisioned once for all runs (15 to 60 seconds);
// starting them takes 5 to 15 seconds, so ask for them only where one does not do.
// Beside what AD needs, the package libnss-wrapper.
func ADPair(t testing.TB) *ADControllers {
	t.Helper()
	p, err := newPair(t)
	if err != nil {
		t.Fatalf("private domain controllers: %v (deploy/install-packages.sh run ad test installs what is missing)", err)
	}
	return p
}

func newPair(t testing.TB) (*ADControllers, error) {
	if err := child.CanBeController(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	programs, err := child.FindSamba(ctx)
	if err != nil {
		return nil, err
	}
	base, err := scratch()
	if err != nil {
		return nil, err
	}
	pristine, err := cachedAD(ctx, base, programs, "ad-pair", adPairRecipe+adRecipe+adLDIF, func(dir string) error { return provisionPair(ctx, programs, dir) })
	if err != nil {
		return nil, err
	}
	// Not one below the other: who cleans up looks for run/samba.pid one level down.
	dir := filepath.Join(base, fmt.Sprintf("pair%d", pairs.Add(1)))
	t.Cleanup(func() {
		for _, one := range []string{"-1", "-2"} {
			_ = os.RemoveAll(dir + one)
		}
	})
	p := &ADControllers{}
	if p.cfgs, err = pairConfigs(programs, dir+"-1", dir+"-2"); err != nil {
		return nil, err
	}
	guids, err := os.ReadFile(filepath.Join(pristine, "guids"))
	if err != nil {
		return nil, err
	}
	p.name(strings.Fields(string(guids)))
	for i, to := range []**ADServer{&p.First, &p.Second} {
		if err := copyTree(ctx, filepath.Join(pristine, p.cfgs[i].Host), p.cfgs[i].Dir); err != nil {
			return nil, err
		}
		if *to, err = newADServer(p.cfgs[i], filepath.Join(p.cfgs[0].Dir, "svc-mail.keytab")); err != nil {
			return nil, err
		}
	}
	t.Cleanup(func() { p.Stop(0); p.Stop(1) })
	for i := range p.cfgs {
		if err := p.start(ctx, i); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// pairConfigs are two controllers on free addresses that know each other.
func pairConfigs(programs child.SambaPrograms, dirs ...string) (cfgs [2]child.SambaConfig, err error) {
	peers, kdcs := map[string]string{}, []string(nil)
	for i, dir := range dirs {
		cfgs[i] = adConfig(programs, dir)
		cfgs[i].Host = fmt.Sprintf("dc%d", i+1)
		if cfgs[i].Address, err = adAddress(); err != nil {
			return cfgs, err
		}
		peers[adHost(cfgs[i])] = cfgs[i].Address
		kdcs = append(kdcs, cfgs[i].Address)
	}
	for i := range cfgs {
		cfgs[i].Peers, cfgs[i].KDCs = peers, map[string][]string{cfgs[i].Realm: kdcs}
	}
	return cfgs, nil
}

// name adds the names by which the controllers replicate, and what the DNS has.
func (p *ADControllers) name(guids []string) {
	domain := strings.ToLower(p.cfgs[0].Realm)
	for i, guid := range guids {
		p.cfgs[0].Peers[guid+"._msdcs."+domain] = p.cfgs[i].Address
		host := adHost(p.cfgs[i])
		for _, service := range []string{"_ldap._tcp.dc._msdcs.", "_kerberos._tcp.dc._msdcs.", "_ldap._tcp.", "_ldap._tcp.Default-First-Site-Name._sites.dc._msdcs."} {
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

func replicate(ctx context.Context, cfgs [2]child.SambaConfig, contexts ...string) error {
	for _, nc := range contexts {
		for i := range cfgs {
			if err := cfgs[0].Replicate(ctx, adHost(cfgs[i]), adHost(cfgs[1-i]), nc); err != nil {
				return fmt.Errorf("replicate %s: %w", nc, err)
			}
		}
	}
	return nil
}

// provisionPair makes both controllers in directories dc1 and dc2 below dir, and a
// file with the names by which they replicate.
func provisionPair(ctx context.Context, programs child.SambaPrograms, dir string) error {
	if err := child.MakeDir(dir, child.User{}); err != nil {
		return err
	}
	p := &ADControllers{}
	var err error
	if p.cfgs, err = pairConfigs(programs, filepath.Join(dir, "dc1"), filepath.Join(dir, "dc2")); err != nil {
		return err
	}
	if err := provisionAD(ctx, p.cfgs[0]); err != nil {
		return err
	}
	defer func() { p.Stop(0); p.Stop(1) }()
	if _, err := adCertificate(p.cfgs[0].Dir, adHost(p.cfgs[0]), p.cfgs[0].Address); err != nil {
		return err
	}
	if err := p.start(ctx, 0); err != nil {
		return err
	}
	if err := p.cfgs[1].Join(ctx, adHost(p.cfgs[0])); err != nil {
		return err
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
func awaitReplication(ctx context.Context, cfgs [2]child.SambaConfig) error {
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

// replicationNames returns the objectGUIDs of the settings of both controllers, as
// the first has them.
func replicationNames(ctx context.Context, cfgs [2]child.SambaConfig) ([]string, error) {
	var guids []string
	for _, cfg := range cfgs {
		dn := "CN=NTDS Settings,CN=" + strings.ToUpper(cfg.Host) + ",CN=Servers,CN=Default-First-Site-Name,CN=Sites,CN=Configuration," + adBase
		guid, err := cfgs[0].Read(ctx, dn, "objectGUID")
		if err != nil {
			return nil, err
		}
		guids = append(guids, guid)
	}
	return guids, nil
}
