package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"dirpost/internal/resolver"
)

// greetings are the first octets of each protocol by whom it is spoken.
var greetings = map[string][]string{
	"smtp": {"220 ", "220-"}, "submission": {"220 ", "220-"}, "lmtp": {"220 ", "220-"},
	"imap": {"* OK", "* PREAUTH"}, "pop3": {"+OK"}, "http": {"HTTP/1."},
}

// knockTime bounds a connection with its greeting.
const knockTime = 8 * time.Second

// knock connects as a client does, with TLS from the first octet where that is due,
// and reads the greeting. The certificate is not judged, but returned, nil without
// TLS.
func knock(ctx context.Context, address, protocol, name string, implicit bool) (*tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, plainNetError(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var state *tls.ConnectionState
	if implicit {
		t := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		s := t.ConnectionState()
		conn, state = t, &s
	}
	if protocol == "http" {
		if _, err := fmt.Fprintf(conn, "HEAD / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name); err != nil {
			return state, plainNetError(err)
		}
	}
	line, err := bufio.NewReaderSize(conn, 1024).ReadSlice('\n')
	if ctx.Err() != nil {
		return state, fmt.Errorf("connected, and says nothing for %v", knockTime)
	}
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return state, fmt.Errorf("connected, and ends without a greeting: %w", plainNetError(err))
	}
	if !slices.ContainsFunc(greetings[protocol], func(g string) bool { return strings.HasPrefix(string(line), g) }) {
		return state, fmt.Errorf("does not speak %s: it says %q", protocol, strings.TrimSpace(string(line[:min(len(line), 60)])))
	}
	return state, nil
}

// plainNetError is what the system said, without the addresses that the caller names
// anyway.
func plainNetError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		if op.Timeout() {
			return errors.New("no answer")
		}
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err
	}
	return err
}

// here is how a listener is reached from its own host.
func (l *ListenerSection) here() string {
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return l.Address // said by the configuration
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// ours are the listeners that the node of this host opens.
func (d *doctor) ours() []ListenerSection {
	roles, err := d.file.roles(d.roles)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(d.file.Listener), func(l ListenerSection) bool { return !slices.Contains(roles, protocols[l.Protocol]) })
}

// ports knocks at the ports of this node.
func (d *doctor) ports(ctx context.Context) {
	listeners := d.ours()
	errs := make([]error, len(listeners))
	states := make([]*tls.ConnectionState, len(listeners))
	var wg sync.WaitGroup
	for i := range listeners {
		wg.Go(func() {
			l := &listeners[i]
			states[i], errs[i] = knock(ctx, l.here(), l.Protocol, d.file.Server.Name, l.TLS == "implicit")
		})
	}
	wg.Wait()
	var reasons []string
	closed := make(map[string][]string)
	for i, l := range listeners {
		if errs[i] == nil {
			continue
		}
		why := errs[i].Error()
		if closed[why] == nil {
			reasons = append(reasons, why)
		}
		closed[why] = append(closed[why], l.Protocol+" on "+l.Address)
	}
	for _, why := range reasons {
		d.warn("listener", "is 'dirpost serve' running here, with the roles of these? Its log says why a port is not open", "no answer from %s: %s", strings.Join(closed[why], ", "), why)
	}
	if len(reasons) == 0 {
		d.ok("listeners", "all %d answer with the greeting of their protocol", len(listeners))
	}
	d.served(states)
}

// served compares the certificates that the node shows with those of the files.
func (d *doctor) served(states []*tls.ConnectionState) {
	if d.file.usesACME() {
		return // they are in the database
	}
	known := make(map[string]bool)
	for _, c := range d.file.TLS.Certificate {
		if pair, err := tls.LoadX509KeyPair(c.Chain, c.Key); err == nil {
			known[string(pair.Leaf.Raw)] = true
		}
	}
	for _, s := range states {
		if s == nil || len(s.PeerCertificates) == 0 || known[string(s.PeerCertificates[0].Raw)] {
			continue
		}
		d.warn("certificate", "it reads new files within a minute; if not, 'systemctl reload dirpost', and its log", "the node shows another certificate than the files have, which ends on %s", s.PeerCertificates[0].NotAfter.UTC().Format(time.DateOnly))
		return
	}
}

// fromOutside knocks at the ports by the public addresses of the server. Whether a
// firewall on the way lets strangers through is only seen from behind it, and it says
// so.
func (d *doctor) fromOutside(ctx context.Context) {
	const subject = "from outside"
	listeners := d.ours()
	local := !slices.ContainsFunc(listeners, func(l ListenerSection) bool { return !isLoopback(l.Address) })
	listeners = slices.DeleteFunc(listeners, func(l ListenerSection) bool {
		return isLoopback(l.Address) && !local || l.Protocol == "lmtp"
	})
	if len(listeners) == 0 {
		return
	}
	name := d.file.Server.Name
	inside, outside, err := d.file.resolvers(nil, nil)
	if err != nil {
		d.bad(subject, "see resolvers and outside_resolvers in [mta]", err)
		return
	}
	found, err := cmp.Or(outside, inside).Addresses(ctx, name)
	if err != nil || len(found.Records) == 0 {
		d.unknown(subject, "not looked at: the DNS has no address of %s", name)
		return
	}
	for _, ip := range found.Records {
		d.through(ctx, ip, listeners)
	}
}

// through knocks at the ports of one public address.
func (d *doctor) through(ctx context.Context, ip netip.Addr, listeners []ListenerSection) {
	const subject = "from outside"
	errs := make([]error, len(listeners))
	ports := make([]string, len(listeners))
	var wg sync.WaitGroup
	for i := range listeners {
		_, ports[i], _ = net.SplitHostPort(listeners[i].Address)
		wg.Go(func() {
			l := &listeners[i]
			_, errs[i] = knock(ctx, net.JoinHostPort(ip.String(), ports[i]), l.Protocol, d.file.Server.Name, l.TLS == "implicit")
		})
	}
	wg.Wait()
	way := "which is one of this host: no firewall before it was passed"
	if !slices.Contains(ownAddresses(), ip.Unmap()) {
		way = "asked from this host, so by the router's way back in"
	}
	var open []string
	shut := make(map[string][]string)
	var reasons []string
	for i, err := range errs {
		if err == nil {
			open = append(open, ports[i])
			continue
		}
		if shut[err.Error()] == nil {
			reasons = append(reasons, err.Error())
		}
		shut[err.Error()] = append(shut[err.Error()], ports[i])
	}
	for _, reason := range reasons {
		d.warn(subject, "open them in the firewall, and forward them to this host; then 'dirpost doctor --outside "+d.file.Server.Name+"' on a machine elsewhere says whether strangers come in",
			"%s, the address of %s, does not answer on %s: %s (%s)", ip, d.file.Server.Name, strings.Join(shut[reason], ", "), reason, way)
	}
	if len(reasons) == 0 {
		d.ok(subject, "%s answers on %s (%s; 'dirpost doctor --outside %s' elsewhere asks from there)", ip, strings.Join(open, ", "), way, d.file.Server.Name)
	}
}

// outbound tries the way out: port 25 to the mail servers of others is what hosting
// providers close.
func (d *doctor) outbound(ctx context.Context) {
	const subject = "way out"
	f := d.file
	if roles, err := f.roles(d.roles); err != nil || !slices.Contains(roles, roleQueue) {
		return // another node sends
	}
	d.otherSystem(ctx)
	switch {
	case f.MTA.Sink != "":
		d.ok(subject, "nothing leaves: all of it goes to %s (mta.sink)", f.MTA.Sink)
		return
	case f.MTA.Smarthost != "":
		address := withPort(f.MTA.Smarthost)
		_, port, _ := net.SplitHostPort(address)
		if _, err := knock(ctx, address, "smtp", "", port == "465"); err != nil {
			d.bad(subject, "is it up, and may this host connect to it? Mail to outside waits", fmt.Errorf("the smarthost %s does not answer: %w", f.MTA.Smarthost, err))
			return
		}
		d.ok(subject, "the smarthost %s answers", f.MTA.Smarthost)
		return
	}
	hosts, err := d.exchangers(ctx)
	if err != nil {
		d.unknown(subject, "not tried: %v (--mail-to names another domain)", err)
		return
	}
	var errs []error
	for _, address := range hosts {
		if _, err = knock(ctx, address, "smtp", "", false); err == nil {
			d.ok(subject, "the mail server at %s, of %s, answers", address, d.mailTo)
			return
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
	}
	d.bad(subject, "most providers close port 25 until they are asked: ask yours, look at the firewall, or send by a smarthost (mta.smarthost). Mail to outside waits", fmt.Errorf("no mail server of %s can be reached: %w", d.mailTo, errors.Join(errs...)))
}

// withPort is HOST or HOST:PORT with the port of SMTP where none is given.
func withPort(text string) string {
	if _, _, err := net.SplitHostPort(text); err == nil {
		return text
	}
	return net.JoinHostPort(strings.Trim(text, "[]"), "25")
}

// otherSystem knocks at the system that has some of the mailboxes.
func (d *doctor) otherSystem(ctx context.Context) {
	other := d.file.Domains.OtherSystem
	if other == "" || d.file.MTA.Sink != "" {
		return
	}
	if _, err := knock(ctx, withPort(other), "smtp", "", false); err != nil {
		d.bad("other system", "is it up, and may this host connect to it? Mail for the mailboxes there waits", fmt.Errorf("%s does not answer: %w", other, err))
		return
	}
	d.ok("other system", "%s answers", other)
}

// exchangers are addresses of the mail servers of --mail-to, at most three.
func (d *doctor) exchangers(ctx context.Context) ([]string, error) {
	if _, _, err := net.SplitHostPort(d.mailTo); err == nil {
		return []string{d.mailTo}, nil
	}
	dns, err := d.file.resolver()
	if err != nil {
		return nil, err
	}
	mx, err := dns.MX(ctx, d.mailTo)
	if err != nil {
		return nil, fmt.Errorf("the DNS has no mail servers of %s: %w", d.mailTo, err)
	}
	slices.SortStableFunc(mx.Records, func(a, b resolver.MX) int { return cmp.Compare(a.Preference, b.Preference) })
	var all []string
	for _, r := range mx.Records {
		a, err := dns.Addresses(ctx, r.Host)
		if err != nil {
			continue
		}
		for _, ip := range a.Records {
			if ip.Is4() || len(all) == 0 { // a host without IPv6 is no finding
				all = append(all, net.JoinHostPort(ip.String(), "25"))
				break
			}
		}
		if len(all) == 3 {
			break
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the DNS has no addresses of the mail servers of %s", d.mailTo)
	}
	return all, nil
}
