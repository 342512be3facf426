package intake

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/message"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/mta/queue"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says what the door lets in.
type Config struct {
	// Hostname is our name in trace fields.
	Hostname string `toml:"-"`
	// MaxSize is the largest message, in octets as on the wire.
	MaxSize int64 `toml:"-"`
	// MaxRecipients is how many recipients one transaction may name.
	MaxRecipients int `toml:"-"`
	// InTransaction is how many mailboxes are delivered to before the 250;
	// beyond it recipients are delivered by the queue, in slices of this size.
	InTransaction int `toml:"-"`
	// OtherClients are the networks from which the system that has some of our
	// mailboxes sends. What it sends is never handed back to it.
	OtherClients []netip.Prefix `toml:"-"`
	// ModerationTime is how long the moderators of a list have to answer before
	// a message goes back to its author.
	ModerationTime time.Duration `toml:"-"`
	// Authors keeps with queued mail who has submitted it, so that the queue manager
	// can hold that of people who have left since.
	Authors bool `toml:"-"`
}

// DefaultConfig returns the limits of the house.
func DefaultConfig(hostname string) Config {
	return Config{Hostname: hostname, MaxSize: 75 << 20, MaxRecipients: 1000, InTransaction: 50, ModerationTime: 4 * 24 * time.Hour}
}

// Validate reports the first value that makes no sense.
func (c Config) Validate() error {
	switch {
	case c.Hostname == "":
		return fmt.Errorf("hostname: must not be empty")
	case c.MaxSize < 64<<10:
		return fmt.Errorf("max message size: %d octets is less than the 64 KiB that RFC 5321 §4.5.3.1.7 asks for", c.MaxSize)
	case c.MaxRecipients < 100:
		return fmt.Errorf("max recipients: %d is less than the 100 that RFC 5321 §4.5.3.1.8 asks for", c.MaxRecipients)
	case c.InTransaction < 1:
		return fmt.Errorf("in-transaction: must be at least 1")
	case c.ModerationTime < time.Minute:
		return fmt.Errorf("moderation time: %s leaves nobody the time to answer", c.ModerationTime)
	}
	return nil
}

// Planner decides what becomes of a message for one recipient. It writes
// nothing. Every error is taken as temporary.
type Planner interface {
	Plan(ctx context.Context, rcpt directory.LocalRecipient, msg *message.Parsed) (store.Delivery, error)
}

// Signer makes the signature of a message that leaves.
type Signer interface {
	// Sign returns a complete DKIM-Signature field with its line end, or nil
	// where domain has no key.
	Sign(ctx context.Context, domain string, header message.Header, body io.Reader) ([]byte, error)
}

// Queue is what the door needs of the mail queue.
type Queue interface {
	// EnqueueTx writes the rows of a message within tx. Doing it again for
	// the same message and recipients changes nothing.
	EnqueueTx(ctx context.Context, tx postgres.Tx, m *queue.Message, rcpts []queue.Recipient) error
	// Wake tells the queue manager that there is something to do.
	Wake()
	// AskTx, Asked and DecideTx keep what moderators are asked, and answer.
	AskTx(ctx context.Context, tx postgres.Tx, q queue.Question) error
	Asked(ctx context.Context, token string) (queue.Asked, error)
	DecideTx(ctx context.Context, tx postgres.Tx, a queue.Answer) error
}

// Verifier knows whether the other system takes mail for an address that nobody has
// here. The error is the answer to the client: permanent only where that system has
// said that there is no such mailbox.
type Verifier interface {
	Verify(ctx context.Context, a envelope.Address, nextHop string) error
}

// Deps are the parts that the door works with. Asker, Signer and Verifier may be nil.
type Deps struct {
	DB        *postgres.DB
	Store     *store.Store
	Blobs     *blob.Store
	Queue     Queue
	Directory *directory.Live
	Asker     *directory.Asker // nil: the directories are not asked about who may be new
	Planner   Planner
	Signer    Signer
	Verifier  Verifier // nil: what the other system may know is taken unasked
	Events    event.Sink
	Log       *slog.Logger
}

// Door lets messages in. It is safe for concurrent use.
type Door struct {
	Deps
	cfg      Config
	contents *contents // of queued messages, so that slices share the parsing
	panics   prometheus.Counter
}

// New returns a Door. cfg must be valid.
func New(cfg Config, deps Deps) *Door {
	return &Door{Deps: deps, cfg: cfg, contents: newContents(16), panics: newPanics()}
}

// MailParams is what MAIL said: an envelope without its recipients.
type MailParams = envelope.Envelope

// Accepted is what became of a message.
type Accepted struct {
	QueueID envelope.QueueID
	// Delivered counts the mailboxes that have it already, Queued the
	// recipients that the queue will see to.
	Delivered, Queued int
}

// now is the database's time.
func (d *Door) now() time.Time { return d.DB.Now() }
