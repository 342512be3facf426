package qmgr

import (
	"errors"
	"time"

	"dirpost/internal/envelope"
)

// Config says how hard and how long mail is tried. Zero fields take the default.
type Config struct {
	// Node names this node among those on the database.
	Node string
	// Hostname is our name in reports.
	Hostname string
	// Postmaster signs reports and reads the answers.
	Postmaster envelope.Address
	// Workers is how many deliveries to outside run at a time; 0: 100.
	Workers int
	// LocalWorkers is how many slices of local recipients are delivered at a
	// time; 0: 2.
	LocalWorkers int
	// LocalSlice is how many mailboxes one transaction delivers to; 0: 50.
	LocalSlice int
	// PerDestination is the most workers that one destination gets; 0: 20.
	// It begins with 2 and follows success and failure.
	PerDestination int
	// MinBackoff and MaxBackoff bound the pause before the next attempt,
	// which otherwise is the age of the message; 0: 5 min, 4 h.
	MinBackoff, MaxBackoff time.Duration
	// DelayWarning is the age at which the sender is told of a delay; 0: never.
	DelayWarning time.Duration
	// Lease is how long a claim holds without being renewed; 0: 5 min.
	Lease time.Duration
	// Grace is how long deliveries under way may go on at shutdown; 0: 10 s.
	Grace time.Duration
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.Node == "":
		return errors.New("queue manager: the node has no name")
	case c.Hostname == "":
		return errors.New("queue manager: our host name is empty")
	case c.Postmaster.IsZero():
		return errors.New("queue manager: no postmaster")
	case c.Workers < 0 || c.LocalWorkers < 0 || c.LocalSlice < 0 || c.PerDestination < 0:
		return errors.New("queue manager: numbers must not be negative")
	case c.MinBackoff < 0 || c.MaxBackoff < 0 || c.DelayWarning < 0 || c.Lease < 0 || c.Grace < 0:
		return errors.New("queue manager: times must not be negative")
	}
	if d := c.withDefaults(); d.MinBackoff > d.MaxBackoff {
		return errors.New("queue manager: the shortest pause is longer than the longest")
	}
	return nil
}

func (c Config) withDefaults() Config {
	number := func(n *int, def int) {
		if *n == 0 {
			*n = def
		}
	}
	duration := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	number(&c.Workers, 100)
	number(&c.LocalWorkers, 2)
	number(&c.LocalSlice, 50)
	number(&c.PerDestination, 20)
	duration(&c.MinBackoff, 5*time.Minute)
	duration(&c.MaxBackoff, 4*time.Hour)
	duration(&c.Lease, 5*time.Minute)
	duration(&c.Grace, 10*time.Second)
	return c
}
