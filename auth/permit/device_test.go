package permit

import (
	"fmt"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

// atHome reports whether a login by a device from a strange network is believed.
func (n *node) atHome(l Login) bool {
	n.t.Helper()
	l.Client, l.Password = away, "right"
	p, err := n.Take(n.t.Context(), l)
	if err != nil {
		n.t.Fatal(err)
	}
	defer p.Settle(Right)
	return p.Familiar
}

// TestDevice: who comes back with what was given out at a login of the same person is
// no stranger, from any network; on other nodes once it has returned.
func TestDevice(t *testing.T) {
	t.Parallel()
	db, d, alice, bob := testenv.Database(t), newDomain(5), entry("alice"), entry("bob")
	one, two := newNode(t, db, d, testConfig(), testKey), newNode(t, db, d, testConfig(), [][]byte{[]byte("another key that came after it..."), testKey[0]})
	fresh, returned := Device{ID: "tls:1"}, Device{ID: "tls:1", Returned: true}
	one.Welcome(Login{Entry: alice, Client: home, Device: fresh})
	one.flush()
	if one.atHome(Login{Entry: alice, Device: fresh}) {
		t.Error("a device that has not returned counts")
	}
	if !one.atHome(Login{Entry: alice, Device: returned}) {
		t.Error("a device that has returned does not count")
	}
	if two.atHome(Login{Entry: alice, Device: returned}) {
		t.Error("one that has never returned was written down")
	}
	one.Welcome(Login{Entry: alice, Client: home, Device: returned})
	one.flush()
	if !two.atHome(Login{Entry: alice, Device: returned}) {
		t.Error("the other node does not know one that has returned")
	}
	if two.atHome(Login{Entry: bob, Device: returned}) || two.atHome(Login{Entry: alice, Device: Device{ID: "tls:2", Returned: true}}) {
		t.Error("another person's, or another one, counts")
	}
	d.set(func(l *directory.Lockout) { l.PasswordSet = time.Now().Add(time.Minute) })
	if one.atHome(Login{Entry: alice, Device: returned}) || two.atHome(Login{Entry: alice, Device: returned}) {
		t.Error("it counts after the password was set")
	}
	d.set(func(l *directory.Lockout) { l.PasswordSet = time.Now().Add(-time.Hour) })
	cookie := Device{ID: "cookie:1", Lasting: true}
	one.Welcome(Login{Entry: bob, Client: home, Device: cookie})
	one.flush()
	if cookie.Returned = true; !two.atHome(Login{Entry: bob, Device: cookie}) {
		t.Error("a cookie is not known to the other node")
	}
	one.ForgetDevices(alice.Key)
	one.flush()
	if one.atHome(Login{Entry: alice, Device: returned}) || two.atHome(Login{Entry: alice, Device: returned}) || !two.atHome(Login{Entry: bob, Device: cookie}) {
		t.Error("the devices of alice, and no others, should be forgotten")
	}
	one.Welcome(Login{Entry: alice, Client: home, Device: returned})
	one.flush()
	if !one.atHome(Login{Entry: alice, Device: returned}) || !two.atHome(Login{Entry: alice, Device: returned}) {
		t.Error("one that was forgotten is not known again after a login")
	}
}

// TestDeviceInAttack: the reserve is there for a device, in a network where nobody
// was before.
func TestDeviceInAttack(t *testing.T) {
	t.Parallel()
	alice := entry("alice")
	n := newNode(t, testenv.Database(t), newDomain(3), testConfig(), testKey)
	laptop := Device{ID: "tls:1"}
	n.Welcome(Login{Entry: alice, Client: home, Device: laptop})
	n.want(alice, "guess", away, "wrong")
	n.want(alice, "right", away, ReasonNone)
	laptop.Returned = true
	if !n.atHome(Login{Entry: alice, Device: laptop}) {
		t.Error("the laptop is a stranger")
	}
}

// TestDevicesBounded: of one person the newest devices are kept, and they take no
// place from networks.
func TestDevicesBounded(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.FamiliarMax = 3
	db, alice := testenv.Database(t), entry("alice")
	n := newNode(t, db, newDomain(5), cfg, testKey)
	n.Welcome(Login{Entry: alice, Client: home})
	for i := range 2 * maxDevices {
		n.Welcome(Login{Entry: alice, Client: home, Device: Device{ID: fmt.Sprint("tls:", i), Returned: true}})
		n.flush()
	}
	for i := range 3 * maxDevices { // programs that never return
		n.Welcome(Login{Entry: alice, Client: home, Device: Device{ID: fmt.Sprint("tls:new", i)}})
	}
	var places, kept int
	if err := db.QueryRow(t.Context(), postgres.Interactive, `select count(*) filter (where not device), count(*) filter (where device) from auth_familiar`).Scan(&places, &kept); err != nil || places != 1 || kept != maxDevices {
		t.Errorf("%d places and %d devices are kept, %v", places, kept, err)
	}
	if known := len(n.devices.known[alice.Key]); known != maxDevices {
		t.Errorf("the node knows %d", known)
	}
	if !n.atHome(Login{Entry: alice, Device: Device{ID: fmt.Sprint("tls:", 2*maxDevices-1), Returned: true}}) {
		t.Error("the newest one is a stranger")
	}
}

// TestLeft: who may not log in any more leaves no device behind.
func TestLeft(t *testing.T) {
	t.Parallel()
	db, alice := testenv.Database(t), entry("alice")
	n := newNode(t, db, newDomain(5), testConfig(), testKey)
	n.Welcome(Login{Entry: alice, Client: home, Device: Device{ID: "cookie:1", Lasting: true}})
	n.Left(alice.Key)
	n.Left("corp:bob")
	n.flush()
	var kept int
	if err := db.QueryRow(t.Context(), postgres.Interactive, `select count(*) from auth_familiar where device`).Scan(&kept); err != nil || kept != 0 {
		t.Errorf("%d kept, %v", kept, err)
	}
}

// TestDeviceAlone: without a sealing key a node knows devices by itself.
func TestDeviceAlone(t *testing.T) {
	t.Parallel()
	alice := entry("alice")
	n := newNode(t, testenv.Database(t), newDomain(5), testConfig(), nil)
	d := Device{ID: "tls:1"}
	n.Welcome(Login{Entry: alice, Client: home, Device: d})
	if d.Returned = true; !n.atHome(Login{Entry: alice, Device: d}) {
		t.Error("it does not count")
	}
	n.Welcome(Login{Entry: alice, Client: home, Device: d})
	n.ForgetDevices(alice.Key)
	if n.atHome(Login{Entry: alice, Device: d}) {
		t.Error("it counts after it was forgotten")
	}
}
