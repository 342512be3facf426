package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// udpSize is the EDNS buffer that never leads to fragments (RFC 9715 §3.1).
const udpSize = 1232

// query makes the packet for one question. The id is random, and so is the
// port of the socket it leaves from.
func query(name string, qtype uint16, edns bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Id = dns.Id()
	// RFC 6840 §5.7: AD in a query asks for AD in the answer, without DO's
	// burden of signatures that we would not check.
	m.AuthenticatedData = true
	if edns {
		m.SetEdns0(udpSize, false)
	}
	return m
}

// exchange asks the servers in turn until one gives an answer that settles the
// question. A server that failed goes to the end of the list for later ones.
func (r *Resolver) exchange(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	var failures []error
	for range r.config.Attempts {
		first := int(r.preferred.Load())
		for i := range r.servers {
			n := (first + i) % len(r.servers)
			m, err := r.ask(ctx, r.servers[n], name, qtype)
			if err == nil {
				return m, nil
			}
			if ctx.Err() != nil {
				return nil, unavailable(errors.Join(append(failures, err)...))
			}
			failures = append(failures, fmt.Errorf("%s: %w", r.servers[n], err))
			r.preferred.CompareAndSwap(int32(n), int32((n+1)%len(r.servers)))
		}
	}
	return nil, unavailable(errors.Join(failures...))
}

// errRefuses reports a server that answered, but not the question.
type errRefuses struct{ rcode int }

func (e errRefuses) Error() string { return dns.RcodeToString[e.rcode] }

// ask asks one server: by UDP with EDNS, without EDNS if it does not know that
// (RFC 6891 §7), and by TCP if the answer is too long for UDP.
func (r *Resolver) ask(ctx context.Context, server netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	m, err := r.overUDP(ctx, server, query(name, qtype, true))
	if err == nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) {
		m, err = r.overUDP(ctx, server, query(name, qtype, false))
	}
	if err == nil && m.Truncated {
		m, err = r.overTCP(ctx, server, query(name, qtype, true))
	}
	switch {
	case err != nil:
		return nil, err
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, errRefuses{m.Rcode}
	}
	return m, nil
}

// overUDP sends q and waits for its answer. Packets that are no answer to q are
// ignored: somebody who guesses must not even be able to end the wait.
func (r *Resolver) overUDP(ctx context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	conn, done, err := dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer done()
	p, err := q.Pack()
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(p); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if m := reply(q, buf[:n]); m != nil {
			return m, nil
		}
	}
}

// overTCP sends q over a connection of its own (RFC 7766).
func (r *Resolver) overTCP(ctx context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	conn, done, err := dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer done()
	p, err := q.Pack()
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, err
	}
	m := reply(q, buf)
	if m == nil || m.Truncated {
		return nil, errors.New("broken answer over TCP")
	}
	return m, nil
}

// dial opens a socket that ends with ctx.
func dial(ctx context.Context, network string, server netip.AddrPort) (net.Conn, func(), error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return conn, func() { stop(); _ = conn.Close() }, nil
}

// reply unpacks p if it is an answer to q, else it returns nil. A truncated
// packet may be cut in the middle of a record: its header is enough then.
func reply(q *dns.Msg, p []byte) *dns.Msg {
	m := new(dns.Msg)
	if err := m.Unpack(p); err != nil && !m.Truncated {
		return nil
	}
	if m.Id != q.Id || !m.Response || m.Opcode != dns.OpcodeQuery {
		return nil
	}
	if len(m.Question) == 0 {
		// Servers leave the question out when they understood nothing of it.
		if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
			return m
		}
		return nil
	}
	got, want := m.Question[0], q.Question[0]
	if len(m.Question) != 1 || got.Qtype != want.Qtype || got.Qclass != want.Qclass || !strings.EqualFold(got.Name, want.Name) {
		return nil
	}
	return m
}
