package ldap

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// The times of being notified.
const (
	notifyRetry   = time.Second      // after a connection that broke
	notifyRefused = 10 * time.Minute // after a server that does not want to notify
)

// wakeNotification is SourceStatus.Wake where the server tells.
const wakeNotification = "notification"

// listener is told by a connection for notifications.
type listener struct {
	up   func(*conn, *dsa)   // once, when the server has taken the request
	news func(*ldap.Entry)   // something has changed: objectGUID and isDeleted
	seen func(highest int64) // it has answered, with the number of its last change
}

// notify opens a connection of its own to the followed controller, and gives a hint
// whenever something may have changed there. Hints may be too many, and too few
// while the connection is away or the server refuses: whoever waits for them has to
// ask now and then.
func (d *dirsync) notify(ctx context.Context, s *server) <-chan struct{} {
	hints := make(chan struct{}, 1)
	hint := func() {
		select {
		case hints <- struct{}{}:
		default:
		}
	}
	failed := false
	l := listener{
		up: func(*conn, *dsa) {
			failed = false
			d.replication.up(s.url, true)
			d.report(func(st *directory.SourceStatus) { st.Wake = wakeNotification })
			hint() // for what changed before
		},
		news: func(e *ldap.Entry) {
			d.replication.event(s.url, e)
			hint()
		},
		seen: func(usn int64) { d.seen(s.url, usn, nil) },
	}
	go func() {
		for {
			err := d.notified(ctx, s, l)
			d.replication.up(s.url, false)
			if ctx.Err() != nil {
				return
			}
			d.report(func(st *directory.SourceStatus) { st.Wake = FollowPoll })
			if !failed {
				d.log.Warn("domain controller does not notify of changes; it is asked every two seconds instead", "server", s.url, "err", err)
			}
			failed = true
			wait := notifyRetry
			if !broken(err) {
				wait = notifyRefused
			}
			if sleep(ctx, wait) != nil {
				return
			}
		}
	}()
	return hints
}

// notified runs one connection for notifications, by the control for it ([MS-ADTS]
// §3.1.1.3.4.1.9), until it fails or ctx is done.
func (d *dirsync) notified(ctx context.Context, s *server, l listener) error {
	c, err := d.client.dialServiceTo(ctx, s)
	if err != nil {
		return err
	}
	defer c.end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dsa, err := d.readDSA(ctx, c)
	if err != nil {
		return err
	}
	// Both ends of the connection may be silent for hours; what bounds waiting is
	// the probe, which also keeps it from being closed as idle.
	c.SetTimeout(0)
	// A subtree is watched only from the root of a naming context, and only
	// whole: no other filter is allowed.
	req := ldap.NewSearchRequest(dsa.context, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"objectGUID", "isDeleted"},
		[]ldap.Control{ldap.NewControlMicrosoftNotification(), ldap.NewControlMicrosoftShowDeleted()})
	r := c.SearchAsync(ctx, req, batchSize)
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		d.probeNotified(ctx, cancel, c, dsa, l)
	}()
	defer func() { cancel(nil); <-probed }()
	for r.Next() {
		if e := r.Entry(); e != nil {
			l.news(e)
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("notification: %w", err)
	}
	return errors.New("the server ended the notification")
}

// probeNotified asks for something small again and again. Requests are answered
// in order, so with the first answer the notification was taken or refused.
func (d *dirsync) probeNotified(ctx context.Context, cancel context.CancelCauseFunc, c *conn, dsa *dsa, l listener) {
	for first := true; ; first = false {
		e, err := d.readObject(ctx, c, "", "highestCommittedUSN")
		if err != nil {
			cancel(fmt.Errorf("%s does not answer: %w", c.server.url, err))
			c.end()
			return
		}
		if ctx.Err() != nil {
			return
		}
		usn, _ := strconv.ParseInt(e.GetEqualFoldAttributeValue("highestCommittedUSN"), 10, 64)
		l.seen(usn)
		if first {
			l.up(c, dsa)
		}
		if sleep(ctx, probeEvery) != nil {
			return
		}
	}
}
