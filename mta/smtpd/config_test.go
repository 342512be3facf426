package smtpd

import (
	"log/slog"
	"testing"
)

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, role := range []Role{MX, MSA} {
		if err := DefaultConfig(role, "mx.corp.example").Validate(); err != nil {
			t.Errorf("default of %s: %v", role, err)
		}
	}
	for name, set := range map[string]func(*Config){
		"host name":            func(c *Config) { c.Hostname = "no host" },
		"postmaster":           func(c *Config) { c.PostmasterDomain = "a b" },
		"size":                 func(c *Config) { c.MaxSize = 0 },
		"recipients below RFC": func(c *Config) { c.MaxRecipients = 99 },
		"lines below RFC":      func(c *Config) { c.MaxContentLine = 997 },
		"connections":          func(c *Config) { c.MaxConnections = 0 },
		"errors":               func(c *Config) { c.HardErrors = 0 },
		"no timeout":           func(c *Config) { c.DataTimeout = 0 },
		"negative":             func(c *Config) { c.Grace = -1 },
	} {
		c := DefaultConfig(MX, "mx.corp.example")
		set(&c)
		if c.Validate() == nil {
			t.Errorf("%s: taken for valid", name)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	implicit := DefaultConfig(MX, "mx.corp.example")
	implicit.ImplicitTLS = true
	for name, tt := range map[string]struct {
		cfg  Config
		deps Deps
	}{
		"implicit TLS without a certificate":     {implicit, Deps{Log: log}},
		"submission without authentication":      {DefaultConfig(MSA, "mx.corp.example"), Deps{Log: log}},
		"a configuration that cannot be correct": {Config{}, Deps{Log: log}},
	} {
		if _, err := New(tt.cfg, tt.deps); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
