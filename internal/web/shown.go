package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"reflect"
	"sync"
)

// shownListener gives connections that hear which certificate the client was shown,
// which crypto/tls does not tell.
type shownListener struct{ net.Listener }

// Accept implements net.Listener.
func (l shownListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &shownConn{Conn: c}, nil
}

// shownConn is a connection below TLS.
type shownConn struct {
	net.Conn
	leaf *x509.Certificate // nil until the handshake
	held sync.Map          // of OfConn, by type
}

// Present is called in the handshake, before anything is read by HTTP.
func (c *shownConn) Present(leaf *x509.Certificate) { c.leaf = leaf }

// shownKey is the key of a shownConn in the context of a request.
type shownKey struct{}

// withShown is http.Server.ConnContext.
func withShown(ctx context.Context, c net.Conn) context.Context {
	t, ok := c.(*tls.Conn)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, shownKey{}, t.NetConn())
}

// Shown returns the certificate that the client of a request was shown, for channel
// bindings (RFC 5929 §4); nil on HTTP.
func Shown(r *http.Request) *x509.Certificate {
	if c, ok := r.Context().Value(shownKey{}).(*shownConn); ok {
		return c.leaf
	}
	return nil
}

// OfConn returns the value of type T that belongs to the connection of a request, for
// protocols that need several requests on one; it is zero at first, and a new one for each
// call on HTTP.
func OfConn[T any](r *http.Request) *T {
	c, ok := r.Context().Value(shownKey{}).(*shownConn)
	if !ok {
		return new(T)
	}
	v, _ := c.held.LoadOrStore(reflect.TypeFor[T](), new(T))
	return v.(*T)
}
