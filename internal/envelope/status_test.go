package envelope

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestStatusOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		want Status
	}{
		{"unclassified", errors.New("a bug"), LocalError},
		{"sentinel", ErrNotFound, StatusNotFound},
		{"wrapped", fmt.Errorf("lookup: %w", Because(StatusDirectory, errors.New("ldap is down"))), StatusDirectory},
		{"our deadline", fmt.Errorf("query: %w", context.DeadlineExceeded), StatusBusy},
		{"classified deadline", Because(StatusDatabase, context.DeadlineExceeded), StatusDatabase},
		{"cancelled", context.Canceled, LocalError},
	} {
		if got := StatusOf(tt.err); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestErrorIs(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	err := fmt.Errorf("deliver: %w", Because(StatusOverQuota.WithText("Mailbox of alice is full"), cause))
	if !errors.Is(err, ErrOverQuota) || !errors.Is(err, cause) {
		t.Errorf("%v is not what it was made of", err)
	}
	if errors.Is(err, ErrNotFound) || errors.Is(ErrNotFound, ErrOverQuota) {
		t.Error("different codes are taken for the same")
	}
	if errors.Is(ErrOverQuota, err) {
		t.Error("a sentinel is no occurrence of an error with a cause")
	}
	if !StatusBusy.IsTemporary() || StatusNotFound.IsTemporary() {
		t.Error("IsTemporary")
	}
}
