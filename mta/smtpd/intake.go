package smtpd

import (
	"context"

	"dirpost/auth"
	"dirpost/internal/envelope"
	"dirpost/mta/intake"
)

// IntakeDoor returns the Door that leads into d.
func IntakeDoor(d *intake.Door) Door { return intakeDoor{d} }

type intakeDoor struct{ door *intake.Door }

func (d intakeDoor) Start(c *envelope.Client, id *auth.Identity, env envelope.Envelope) (Transaction, error) {
	t, err := d.door.Start(c, id, env)
	if err != nil {
		return nil, err
	}
	return intakeTransaction{t}, nil
}

// intakeTransaction drops what Commit tells of a message besides its acceptance:
// intake has emitted it, and the client hears the queue id only.
type intakeTransaction struct{ *intake.Transaction }

func (t intakeTransaction) Commit(ctx context.Context) error {
	_, err := t.Transaction.Commit(ctx)
	return err
}

var _ Authenticator = (*auth.Bridge)(nil)
