package testenv_test

import (
	"testing"

	"dirpost/internal/testenv"
)

func TestPostgresURL(t *testing.T) {
	a, b := testenv.PostgresURL(t), testenv.PostgresURL(t)
	if a == b {
		t.Errorf("two tests share %s", a)
	}
}
