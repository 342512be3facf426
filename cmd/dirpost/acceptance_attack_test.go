//go:build acceptance

package main

import "testing"

// TestAcceptanceAttack is TestAttack with 100,000 wrong logins from 1,000 addresses,
// and twenty passwords tried with every account.
func TestAcceptanceAttack(t *testing.T) {
	checkAttack(t, attack{accounts: 60, guesses: 100_000, addresses: 1000, spray: 20, workers: 64})
}
