//go:build acceptance

package main

import (
	"os"
	"testing"
	"time"
)

// TestAcceptanceDirectoryOutage is TestDirectoryOutage for ten minutes, or for what
// DIRPOST_OUTAGE says.
func TestAcceptanceDirectoryOutage(t *testing.T) {
	span := 10 * time.Minute
	if v := os.Getenv("DIRPOST_OUTAGE"); v != "" {
		var err error
		if span, err = time.ParseDuration(v); err != nil {
			t.Fatalf("DIRPOST_OUTAGE: %v", err)
		}
	}
	checkOutage(t, span/2, 40*time.Millisecond)
}
