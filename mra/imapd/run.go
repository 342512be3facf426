package imapd

import (
	"context"
	"errors"
	"time"
)

// command reads one command and runs it. An error ends the session.
func (c *conn) command() error {
	if err := c.dec.Next(); err != nil {
		return c.orCause(err)
	}
	c.code, c.text = "", ""
	begun := time.Now()
	name, cmd := c.parse()
	if cmd != nil && name != "IDLE" { // whose time is the client's
		defer func() { c.srv.seconds.WithLabelValues(name).Observe(time.Since(begun).Seconds()) }()
	}
	var err error
	switch {
	case c.dec.Err() != nil:
		err = c.dec.Err()
	case cmd == nil:
		err = bad("Unknown command")
	case cmd.states&c.state == 0:
		err = bad(wrongState(cmd.states, c.state))
	case cmd.effects&inline != 0:
		err = guard(func() error { return c.run(cmd) })
	default:
		err = aside(func() error { return c.run(cmd) })
	}
	return c.finish(name, err)
}

// parse takes tag and name of a command.
func (c *conn) parse() (string, *command) {
	c.tag = "*" // of a command whose tag cannot be read (RFC 9051 §7.1.3)
	tag := c.dec.Tag()
	c.dec.Space()
	if c.dec.Err() != nil {
		return "", nil
	}
	c.tag = tag
	name := string(c.dec.Word())
	if name == "UID" && c.dec.Peek() == ' ' {
		c.dec.Space()
		name += " " + string(c.dec.Word())
	}
	return name, commands[name]
}

func wrongState(want, is state) string {
	switch {
	case is == notAuthenticated:
		return "Please log in first"
	case want == notAuthenticated:
		return "Already logged in"
	}
	return "No mailbox selected"
}

// run runs cmd and then tells what has changed in the mailbox.
func (c *conn) run(cmd *command) error {
	if err := c.checkAccess(); err != nil {
		return err
	}
	ctx := c.mc.Work(c.ctx)
	var err error
	if cmd.effects&inline != 0 {
		err = cmd.run(c.ctx, c, c.dec) // it waits, and ends when the server leaves
	} else {
		err = cmd.run(ctx, c, c.dec)
	}
	if c.sel == nil || cmd.effects&silent != 0 || c.broken != nil || c.dec.Broken() != nil {
		return err
	}
	if c.sel.stale.Load() || cmd.effects&asks != 0 || len(c.sel.ghosts) > 0 {
		if serr := c.sync(ctx, c.mayExpunge(cmd.effects)); err == nil {
			err = serr
		}
	}
	return err
}

// finish answers the command and makes ready for the next. An error ends the
// session.
func (c *conn) finish(name string, err error) error {
	if c.broken != nil {
		return c.broken
	}
	if err := c.dec.Broken(); err != nil {
		return c.orCause(err)
	}
	var gone *leaving
	switch {
	case errors.Is(err, errLogout), errors.As(err, &gone):
		return err
	case err != nil && c.mc.Work(c.ctx).Err() != nil:
		return context.Cause(c.mc.Work(c.ctx)) // it was interrupted, and the session ends
	case errors.Is(err, errAnswered):
		return c.orCause(c.dec.Finish())
	case err == nil:
		c.bads = 0
		if c.text == "" {
			c.text = name + " completed"
		}
		c.tagged("OK", c.code, c.text)
		c.srv.commands.WithLabelValues(name, "OK").Inc()
		return c.orCause(c.dec.Finish())
	}
	if err := c.fail(name, err); err != nil {
		return err
	}
	return c.orCause(c.dec.Finish())
}

// fail is the only place where an error becomes an answer: syntax is BAD, the
// user's problem NO with a code of RFC 5530, ours NO [UNAVAILABLE]. The cause is
// for the log. An error that it returns ends the session.
func (c *conn) fail(name string, err error) error {
	p := c.problemOf(err)
	if commands[name] == nil {
		name = "unknown"
	}
	c.srv.commands.WithLabelValues(name, p.status).Inc()
	c.tagged(p.status, p.code, p.text)
	if p.status != "BAD" {
		c.bads = 0
	} else if c.bads++; c.bads >= maxBads {
		c.bye("[CLIENTBUG] Too many invalid commands")
		return errLogout
	}
	var panicked *panicError
	switch {
	case errors.As(err, &panicked):
		c.srv.panics.Inc()
		c.mc.Log.Error("panic in command", "verb", name, "err", panicked.value, "stack", string(panicked.stack))
		c.bye("Internal error, session " + c.mc.Session)
		return errLogout
	case p.ours:
		c.mc.Log.Error("command failed", "verb", name, "code", p.code, "err", err)
	default:
		c.mc.Log.Debug("command refused", "verb", name, "code", p.code, "err", err)
	}
	if errors.Is(err, errMailboxGone) {
		c.bye("Selected mailbox is no longer there")
		return errLogout
	}
	return nil
}
