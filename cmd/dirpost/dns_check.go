package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"

	"dirpost/internal/resolver"

	"blitiri.com.ar/go/spf"
)

// What a resolver says of a record.
const (
	dnsRight   = "ok"
	dnsMissing = "missing"
	dnsWrong   = "wrong"
	dnsSilent  = "no answer"
	dnsAbsent  = "none" // nothing is there, which is fine
)

// view is what one resolver sees of one record.
type view struct {
	State string `json:"state"`
	Text  string `json:"text,omitempty"` // what is wrong, or what is there instead
}

// dnsFinding is what check says of one record.
type dnsFinding struct {
	dnsRecord
	Inside  view  `json:"inside"`
	Outside *view `json:"outside,omitempty"`
}

// decides is the view that counts: the world's, where it was asked.
func (f *dnsFinding) decides() view {
	if f.Outside != nil {
		return *f.Outside
	}
	return f.Inside
}

// dnsView asks one resolver.
type dnsView struct {
	resolver *resolver.Resolver
	host     string       // of the server
	server   []netip.Addr // its addresses as this resolver sees them
}

func newDNSView(ctx context.Context, r *resolver.Resolver, host string) *dnsView {
	v := &dnsView{resolver: r, host: host}
	if a, err := r.Addresses(ctx, host); err == nil {
		v.server = a.Records
	}
	return v
}

// look compares a record with what is there.
func (v *dnsView) look(ctx context.Context, r *dnsRecord) view {
	name := strings.TrimSuffix(r.Name, ".")
	switch r.Type {
	case "A", "AAAA":
		a, err := v.resolver.Addresses(ctx, name)
		return judge(r, err, texts(a.Records), func(s string) bool { return s == r.Data })
	case "PTR":
		ip, err := reverseOf(name)
		if err != nil {
			return view{dnsWrong, err.Error()}
		}
		a, err := v.resolver.PTR(ctx, ip)
		return judge(r, err, a.Records, func(s string) bool { return s+"." == r.Data })
	case "MX":
		a, err := v.resolver.MX(ctx, name)
		return judge(r, err, texts(a.Records), func(s string) bool { _, host, _ := strings.Cut(s, " "); return host == v.host })
	case "CNAME":
		return v.sameServer(ctx, r, name)
	case "SRV":
		a, err := v.resolver.SRV(ctx, name)
		want := strings.Fields(r.Data)
		return judge(r, err, texts(a.Records), func(s string) bool {
			got := strings.Fields(s)
			return len(got) == 4 && got[2] == want[2] && got[3]+"." == want[3]
		})
	case "TLSA":
		a, err := v.resolver.TLSA(ctx, name)
		return judge(r, err, texts(a.Records), func(s string) bool { return s == r.Data })
	}
	return v.text(ctx, r, name)
}

// judge compares what was found with what should be there.
func judge(r *dnsRecord, err error, found []string, right func(string) bool) view {
	switch {
	case resolver.IsAbsent(err) || err == nil && len(found) == 0:
		if r.Need == optional {
			return view{State: dnsAbsent}
		}
		return view{State: dnsMissing}
	case err != nil:
		return view{dnsSilent, err.Error()}
	case !slices.ContainsFunc(found, right):
		return view{dnsWrong, "there is " + strings.Join(found, ", ")}
	}
	return view{State: dnsRight}
}

// texts are records in the form of a zone file.
func texts[T any](records []T) (all []string) {
	for _, r := range records {
		switch r := any(r).(type) {
		case netip.Addr:
			all = append(all, r.String())
		case resolver.MX:
			all = append(all, fmt.Sprintf("%d %s", r.Preference, r.Host))
		case resolver.SRV:
			all = append(all, fmt.Sprintf("%d %d %d %s", r.Priority, r.Weight, r.Port, r.Host))
		case resolver.TLSA:
			all = append(all, fmt.Sprintf("%d %d %d %s", r.Usage, r.Selector, r.MatchingType, r.Data))
		}
	}
	return all
}

// sameServer looks whether a name leads to the server, by an alias or by addresses of
// its own.
func (v *dnsView) sameServer(ctx context.Context, r *dnsRecord, name string) view {
	a, err := v.resolver.Addresses(ctx, name)
	if err == nil && a.Name == v.host {
		return view{State: dnsRight}
	}
	return judge(r, err, texts(a.Records), func(s string) bool { return slices.Contains(texts(v.server), s) })
}

// text looks at a TXT record, each by its own rules.
func (v *dnsView) text(ctx context.Context, r *dnsRecord, name string) view {
	a, err := v.resolver.TXT(ctx, name)
	want := strings.NewReplacer(`" "`, "", `"`, "", "( ", "", " )", "").Replace(r.Data)
	version, _, _ := strings.Cut(want, ";")
	version, _, _ = strings.Cut(version, " ")
	var found []string
	for _, text := range a.Records {
		if strings.HasPrefix(strings.ToLower(strings.TrimSpace(text)), strings.ToLower(version)) {
			found = append(found, text)
		}
	}
	switch {
	case len(found) > 1:
		return view{dnsWrong, fmt.Sprintf("there are %d records with %s: nobody reads any of them", len(found), version)}
	case version == "v=spf1" && len(found) == 1:
		return v.spf(ctx, r, name, found[0])
	}
	return judge(r, err, found, func(s string) bool {
		switch version {
		case "v=DKIM1":
			return tag(s, "p") == tag(want, "p")
		case "v=STSv1":
			return tag(s, "id") == tag(want, "id")
		}
		return true // what DMARC and TLS-RPT say is the admin's decision
	})
}

// tag is the value of a tag of a list (RFC 6376 §3.2), without white space.
func tag(list, name string) string {
	for t := range strings.SplitSeq(list, ";") {
		if n, value, ok := strings.Cut(t, "="); ok && strings.TrimSpace(n) == name {
			return strings.Join(strings.Fields(value), "")
		}
	}
	return ""
}

// spf judges whether mail from the server's addresses passes, as receivers do
// (RFC 7208 §4), whatever way the record says it.
func (v *dnsView) spf(ctx context.Context, r *dnsRecord, domain, text string) view {
	for _, ip := range v.server {
		if ip.IsPrivate() || ip.IsLoopback() {
			continue // the world sees another address
		}
		result, err := spf.CheckHostWithSender(ip.AsSlice(), v.host, "postmaster@"+domain, spf.WithContext(ctx), spf.WithResolver(spfResolver{v.resolver}))
		if result != spf.Pass {
			text = fmt.Sprintf("mail from %s is judged %q by %q", ip, result, text)
			if err != nil {
				text += ": " + err.Error()
			}
			return view{dnsWrong, text}
		}
	}
	return view{State: dnsRight}
}

// spfResolver lets the library ask our resolver.
type spfResolver struct{ r *resolver.Resolver }

func (s spfResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a, err := s.r.TXT(ctx, strings.TrimSuffix(name, "."))
	return a.Records, asNetError(name, err)
}

func (s spfResolver) LookupMX(ctx context.Context, name string) (all []*net.MX, _ error) {
	a, err := s.r.MX(ctx, strings.TrimSuffix(name, "."))
	for _, mx := range a.Records {
		all = append(all, &net.MX{Host: mx.Host, Pref: mx.Preference})
	}
	return all, asNetError(name, err)
}

func (s spfResolver) LookupIPAddr(ctx context.Context, host string) (all []net.IPAddr, _ error) {
	a, err := s.r.Addresses(ctx, strings.TrimSuffix(host, "."))
	for _, ip := range a.Records {
		all = append(all, net.IPAddr{IP: ip.AsSlice()})
	}
	return all, asNetError(host, err)
}

func (s spfResolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, err
	}
	a, err := s.r.PTR(ctx, ip)
	return a.Records, asNetError(addr, err)
}

// asNetError is an error by which the library tells absence from trouble.
func asNetError(name string, err error) error {
	if err == nil {
		return nil
	}
	return &net.DNSError{Err: err.Error(), Name: name, IsNotFound: resolver.IsAbsent(err), IsTemporary: errors.Is(err, resolver.ErrUnavailable)}
}

// reverseOf is the address of a name of the reverse tree (RFC 1035 §3.5, RFC 3596 §2.5).
func reverseOf(name string) (netip.Addr, error) {
	if labels, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(labels, ".")
		slices.Reverse(parts)
		return netip.ParseAddr(strings.Join(parts, "."))
	}
	labels, _ := strings.CutSuffix(name, ".ip6.arpa")
	nibbles := strings.Split(labels, ".")
	slices.Reverse(nibbles)
	var b strings.Builder
	for i, n := range nibbles {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteString(n)
	}
	return netip.ParseAddr(b.String())
}

// checkDNS looks at all records, with the resolvers inside and, unless it is nil,
// outside.
func checkDNS(ctx context.Context, host string, all []dnsRecord, inside, outside *resolver.Resolver) []dnsFinding {
	views := []*dnsView{newDNSView(ctx, inside, host)}
	if outside != nil {
		views = append(views, newDNSView(ctx, outside, host))
	}
	findings := make([]dnsFinding, len(all))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range all {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			findings[i] = dnsFinding{dnsRecord: all[i], Inside: views[0].look(ctx, &all[i])}
			if outside != nil {
				v := views[1].look(ctx, &all[i])
				findings[i].Outside = &v
			}
		})
	}
	wg.Wait()
	return findings
}

// reportDNS prints findings, and returns the exit code: 1 when something required is
// not right, 2 when something recommended is not.
func reportDNS(w io.Writer, findings []dnsFinding, asJSON bool) (exitCode, error) {
	code := exitCode(0)
	for i := range findings {
		if f := &findings[i]; f.decides().State != dnsRight && f.decides().State != dnsAbsent {
			if f.Need == required || f.Need == optional { // an optional one that is wrong does harm
				code = 1
			} else if code == 0 {
				code = 2
			}
		}
	}
	if asJSON {
		e := json.NewEncoder(w)
		for i := range findings {
			if err := e.Encode(&findings[i]); err != nil {
				return code, err
			}
		}
		return code, nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tTYPE\tINSIDE\tOUTSIDE\tNEED")
	var notes strings.Builder
	for i := range findings {
		f := &findings[i]
		outside := "-"
		if f.Outside != nil {
			outside = f.Outside.State
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", f.Name, f.Type, f.Inside.State, outside, f.Need)
		if v := f.decides(); v.State != dnsRight && v.State != dnsAbsent {
			fmt.Fprintf(&notes, "\n%s %s: %s: %s\n", f.Name, f.Type, v.State, f.Why)
			if v.Text != "" {
				fmt.Fprintf(&notes, "    %s\n", v.Text)
			}
			fmt.Fprintf(&notes, "    publish: %s IN %s %s\n", f.Name, f.Type, f.Data)
		} else if f.Outside != nil && f.Inside != *f.Outside {
			fmt.Fprintf(&notes, "\n%s %s: right outside, but inside %s: people in the house may not find the server\n", f.Name, f.Type, f.Inside.State)
			if f.Inside.Text != "" {
				fmt.Fprintf(&notes, "    %s\n", f.Inside.Text)
			}
		}
	}
	if err := t.Flush(); err != nil {
		return code, err
	}
	_, err := io.WriteString(w, notes.String())
	return code, err
}

// resolverAt asks one server, "192.0.2.53" or "192.0.2.53:5353".
func resolverAt(servers []string) (*resolver.Resolver, error) {
	for i, s := range servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			servers[i] = net.JoinHostPort(strings.Trim(s, "[]"), strconv.Itoa(53))
		}
	}
	return resolver.New(resolver.Config{Servers: servers})
}
