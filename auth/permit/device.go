package permit

import (
	"context"
	"slices"
	"sync"
	"time"

	"dirpost/directory"
)

// Device is what a client has of an earlier connection and nobody else can know, such
// as a TLS session that it resumes. It is no proof of who somebody is. The zero value
// is none.
type Device struct {
	// ID names it; it is kept as a hash.
	ID string
	// Returned says that the client has shown to have it from before.
	Returned bool
	// Lasting says that clients keep what they were given, so that it is written down
	// before one comes back with it.
	Lasting bool
}

// String says what is known of d, for the audit: "" for none.
func (d Device) String() string {
	switch {
	case d.ID == "":
		return ""
	case d.Returned:
		return "returned"
	}
	return "new"
}

// GoString keeps the secret out of dumps.
func (d Device) GoString() string { return "device(" + d.String() + ")" }

const (
	// maxDevices is how many devices of a person are kept, in the database and in a
	// node. Programs that never return take places in the node alone.
	maxDevices = 20
	// maxDevicePeople bounds how many people's devices a node knows.
	maxDevicePeople = 1 << 16
	// newDeviceFor is how long a node knows of a device that has not returned: as long
	// as tickets of TLS 1.3 live (RFC 8446 §4.6.1).
	newDeviceFor = 7 * 24 * time.Hour
)

// device is the mark of a device of a person.
func (k *keyed) device(person directory.Key, id string) sum {
	return k.of("device", string(person), id)
}

// seenDevice is a device, and when its person has last come in by it.
type seenDevice struct {
	mark      sum
	at, until time.Time // until is when it is forgotten
	written   bool      // it is in the database, as of at
}

// devices are those that a node knows of, by person, the latest last.
type devices struct {
	mu    sync.Mutex // guards known
	known map[directory.Key][]seenDevice
}

func newDevices() *devices { return &devices{known: map[directory.Key][]seenDevice{}} }

// get returns a device with one of marks, if it is known.
func (d *devices) get(person directory.Key, marks []sum, now time.Time) (seenDevice, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.known[person] {
		if now.Before(s.until) && slices.Contains(marks, s.mark) {
			return s, true
		}
	}
	return seenDevice{}, false
}

// put remembers a device.
func (d *devices) put(person directory.Key, s seenDevice) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.DeleteFunc(d.known[person], func(o seenDevice) bool { return o.mark == s.mark })
	if len(all) >= maxDevices {
		all = slices.Delete(all, 0, 1+len(all)-maxDevices)
	}
	for other := range d.known { // in no order
		if len(d.known) < maxDevicePeople {
			break
		}
		delete(d.known, other)
	}
	d.known[person] = append(all, s)
}

// forget forgets the devices of a person, and reports whether there were any.
func (d *devices) forget(person directory.Key) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, had := d.known[person]
	delete(d.known, person)
	return had
}

const deviceAtSQL = `
select max(last_at)
  from auth_familiar
 where person = $1
   and mark = any ($2)
   and device
   and last_at > now() - $3::interval`

// askDevice makes the login of p a familiar one if it comes by a device by which the
// person has come in since the password was set.
func (c *Counter) askDevice(ctx context.Context, p *Permit) error {
	d := p.l.Device
	if p.Familiar || p.l.Entry == nil || d.ID == "" || !d.Returned || p.asked {
		return nil
	}
	p.asked = true
	person := p.l.Entry.Key
	var marks []sum
	for _, k := range c.keys {
		marks = append(marks, k.device(person, d.ID))
	}
	var at *time.Time
	if s, ok := c.devices.get(person, marks, c.now()); ok {
		at = &s.at
	} else if c.shared {
		r := &request{person: person, sql: deviceAtSQL, args: []any{string(person), c.octets(marks), c.cfg.Familiar}, dest: []any{&at}}
		if err := c.exchange.do(ctx, r); err != nil {
			return temporary(err)
		}
	}
	if at == nil {
		return nil
	}
	l, err := c.lockout(ctx, p)
	if err != nil {
		return err
	}
	p.Familiar = l.PasswordSet.Before(*at) // zero, not known, is
	return nil
}

const deviceSQL = `select auth_device_add($1, $2, $3)`

// welcomeDevice remembers the device by which a person has come in. Most programs
// never come back with what they were given, so that it is written down when one has.
func (c *Counter) welcomeDevice(person directory.Key, d Device) {
	if d.ID == "" {
		return
	}
	now, mark := c.now(), c.keys[0].device(person, d.ID)
	s := seenDevice{mark: mark, at: now, until: now.Add(newDeviceFor)}
	switch {
	case !d.Returned && !d.Lasting:
	case !c.shared:
		s.until = now.Add(c.cfg.Familiar)
	default:
		s.until = now.Add(familiarFor)
		if old, ok := c.devices.get(person, []sum{mark}, now); ok && old.written {
			return
		}
		s.written = true
		c.exchange.later(&request{person: person, sql: deviceSQL, args: []any{string(person), c.hash(mark), maxDevices}, dest: []any{nil}})
	}
	c.devices.put(person, s)
}

const forgetDevicesSQL = `select auth_device_forget($1)`

// ForgetDevices forgets by which devices a person has come in, here and in the
// database: they are a stranger's until they are used again. It does not wait.
func (c *Counter) ForgetDevices(person directory.Key) {
	c.devices.forget(person)
	if c.shared {
		c.exchange.later(&request{person: person, sql: forgetDevicesSQL, args: []any{string(person)}, dest: []any{nil}})
	}
}

// Left forgets the devices of a person who may not log in any more, if this node has
// seen one of them.
func (c *Counter) Left(person directory.Key) {
	if c.devices.forget(person) && c.shared {
		c.exchange.later(&request{person: person, sql: forgetDevicesSQL, args: []any{string(person)}, dest: []any{nil}})
	}
}
