package ldap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// The times of being notified.
const (
	notifyRetry   = time.Second      // after a connection that broke
	notifyRefused = 10 * time.Minute // after a server that does not want to notify
)

// notify opens a connection of its own to a domain controller, and gives a hint
// whenever something may have changed there: by the notification control
// ([MS-ADTS] §3.1.1.3.4.1.9). Hints may be too many, and too few while the
// connection is away or the server refuses: whoever waits for them has to ask
// now and then.
func (d *dirsync) notify(ctx context.Context, s *server) <-chan struct{} {
	hints := make(chan struct{}, 1)
	go func() {
		failed := false
		for ctx.Err() == nil {
			err := d.notified(ctx, s, func([]*ldap.Entry) {
				select {
				case hints <- struct{}{}:
				default:
				}
			}, func() {
				failed = false
				d.report(func(st *directory.SourceStatus) { st.Wake = wakeNotification })
			})
			if ctx.Err() != nil {
				return
			}
			d.report(func(st *directory.SourceStatus) { st.Wake = FollowPoll })
			wait := notifyRetry
			if !broken(err) {
				wait = notifyRefused
			}
			if !failed {
				d.log.Warn("domain controller does not notify of changes; it is asked every two seconds instead", "server", s.url, "err", err)
			}
			failed = true
			if sleep(ctx, wait) != nil {
				return
			}
		}
	}()
	return hints
}

// wakeNotification is SourceStatus.Wake where the server tells.
const wakeNotification = "notification"

// notified runs one connection for notifications. It calls up once, when the
// server has taken the request, and news for what arrives.
func (d *dirsync) notified(ctx context.Context, s *server, news func([]*ldap.Entry), up func()) error {
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
	req := ldap.NewSearchRequest(dsa.context, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"objectGUID"},
		[]ldap.Control{ldap.NewControlMicrosoftNotification(), ldap.NewControlMicrosoftShowDeleted()})
	r := c.SearchAsync(ctx, req, batchSize)
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		d.probeNotified(ctx, c, cancel, up, news)
	}()
	defer func() { cancel(nil); <-probed }()
	for r.Next() {
		if e := r.Entry(); e != nil {
			news([]*ldap.Entry{e})
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
// in order, so with the first answer the notification was taken or refused; what
// changed before that is news too.
func (d *dirsync) probeNotified(ctx context.Context, c *conn, cancel context.CancelCauseFunc, up func(), news func([]*ldap.Entry)) {
	for first := true; ; first = false {
		if _, err := d.readObject(ctx, c, "", "dnsHostName"); err != nil {
			cancel(fmt.Errorf("%s does not answer: %w", c.server.url, err))
			c.end()
			return
		}
		if first && ctx.Err() == nil {
			up()
			news(nil)
		}
		if sleep(ctx, probeEvery) != nil {
			return
		}
	}
}
