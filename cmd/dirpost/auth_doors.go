package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"dirpost/auth"
)

// config is what the bridge is told.
func (a AuthSection) config() (auth.Config, error) {
	c := auth.Config{PlaintextLoopback: a.PlaintextLoopback, Remember: time.Duration(a.Remember), FailureTime: time.Duration(a.FailureTime)}
	var errs []error
	if a.Inside != nil {
		c.Inside = []netip.Prefix{} // answered, if with none
	}
	for _, text := range a.Inside {
		n, err := parseNetwork(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("inside: %q is no address or network such as 10.0.0.0/8", text))
			continue
		}
		c.Inside = append(c.Inside, n.Masked())
	}
	return c, errors.Join(append(errs, c.Validate())...)
}
