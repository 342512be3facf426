package mra

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"dirpost/auth"
)

// session is a session whose person can be revoked.
func session(t *testing.T, server net.Conn) (c *Conn, ctx context.Context, revoke func()) {
	t.Helper()
	c = NewConn(server, nil, "s", testLog())
	w := &watch{}
	ctx, done, err := c.Admit(t.Context(), w, &auth.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	return c, ctx, w.revoke
}

// A session that is revoked ends within a command too: what the client sends is
// not waited for, and there is still room for a word.
func TestRevokedWhileItReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		c, ctx, revoke := session(t, server)
		start := time.Now()
		time.AfterFunc(time.Second, func() { revoke() })
		if _, err := c.Reader().ReadByte(); err == nil {
			t.Error("read something")
		}
		var revoked *RevokedError
		if d := time.Since(start); d != time.Second || !errors.As(context.Cause(ctx), &revoked) {
			t.Errorf("ended after %v by %v", d, context.Cause(ctx))
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("read something later")
		}
		go func() { _, _ = client.Read(make([]byte, 10)) }()
		if _, err := c.Write([]byte("bye")); err != nil {
			t.Errorf("no last word: %v", err)
		}
	})
}

// A client that does not read what it has asked for is cut off.
func TestRevokedWhileItWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		c, _, revoke := session(t, server)
		start := time.Now()
		time.AfterFunc(time.Second, func() { revoke() })
		if _, err := c.Write(bytes.Repeat([]byte("x"), 64<<10)); err == nil {
			t.Error("written to nobody")
		}
		if d := time.Since(start); d != time.Second+byeTime {
			t.Errorf("ended after %v", d)
		}
		if _, err := c.Write([]byte("y")); err == nil {
			t.Error("written to nobody, later")
		}
		if d := time.Since(start); d != time.Second+byeTime {
			t.Errorf("a later write ended after %v", d)
		}
	})
}
