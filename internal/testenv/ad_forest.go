package testenv

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"dirpost/internal/child"
)

// otherAD is the second domain of this binary.
var otherAD = sync.OnceValues(func() (*ADServer, error) {
	return startDomain("ad-other", otherConfig)
})

func otherConfig(programs child.SambaPrograms, dir string) child.SambaConfig {
	cfg := adConfig(programs, dir)
	cfg.Host, cfg.Realm, cfg.Domain = "dc9", "OTHER.EXAMPLE", "OTHER"
	return cfg
}

// ADForest returns the domain of AD and a second one, OTHER.EXAMPLE, with people of
// the same names under DNs, addresses and SIDs of its own. The tests of a binary
// share both.
//
// The first trusts the second, see Trust: its groups take members of the other, named
// by SID, and it makes the foreign security principals for them itself. The trust is
// made of its entries: the tool of administrators wants SMB and a dozen processes for
// each domain. ADTrusted has what that makes.
func ADForest(t testing.TB) (corp, other *ADServer) {
	t.Helper()
	corp = AD(t)
	other, err := otherAD()
	if err != nil {
		t.Fatalf("second private domain: %v", err)
	}
	corp.Trust(t, other)
	return corp, other
}

// ADTrusted starts two domains with the people of ADForest for this test alone, which
// trust each other by an external trust that samba-tool domain trust create has made. It
// takes half a minute.
func ADTrusted(t testing.TB) (corp, other *ADServer) {
	t.Helper()
	corp, other, err := newTrusted(t)
	if err != nil {
		t.Fatalf("private domains that trust each other: %v", err)
	}
	return corp, other
}

func newTrusted(t testing.TB) (corp, other *ADServer, err error) {
	if err := child.CanBeController(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	programs, err := child.FindSamba(ctx)
	if err != nil {
		return nil, nil, err
	}
	base, err := scratch()
	if err != nil {
		return nil, nil, err
	}
	var cfgs [2]child.SambaConfig
	peers, kdcs := map[string]string{}, map[string][]string{}
	for i, name := range []string{"ad", "ad-other"} {
		config := adConfig
		if i == 1 {
			config = otherConfig
		}
		pristine, err := cachedAD(ctx, base, programs, name, adRecipe+adLDIF, func(dir string) error { return provisionAD(ctx, config(programs, dir)) })
		if err != nil {
			return nil, nil, err
		}
		cfgs[i] = config(programs, filepath.Join(base, name+"-trusted"))
		if err := copyTree(ctx, pristine, cfgs[i].Dir); err != nil {
			return nil, nil, err
		}
		if cfgs[i].Address, err = adAddress(); err != nil {
			return nil, nil, err
		}
		peers[adHost(cfgs[i])] = cfgs[i].Address
		kdcs[cfgs[i].Realm] = []string{cfgs[i].Address}
	}
	for i, to := range []**ADServer{&corp, &other} {
		cfgs[i].Peers, cfgs[i].KDCs, cfgs[i].Files = peers, kdcs, true
		if *to, err = newADServer(cfgs[i], filepath.Join(cfgs[i].Dir, "svc-mail.keytab")); err != nil {
			return nil, nil, err
		}
		proc, err := child.StartSamba(ctx, cfgs[i])
		if err != nil {
			return nil, nil, err
		}
		t.Cleanup(func() { proc.Stop(20 * time.Second) })
	}
	for { // SMB is the last to be there
		if err = cfgs[0].Trust(ctx, cfgs[1]); err == nil || ctx.Err() != nil {
			return corp, other, err
		}
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
		}
		if _, there := cfgs[0].Read(ctx, "CN=other.example,CN=System,"+corp.Base, "trustPartner"); there == nil {
			return nil, nil, err
		}
	}
}
