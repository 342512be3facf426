package directory

import (
	"testing"

	"dirpost/internal/envelope"
)

// addr parses an address of a test.
func addr(s string) envelope.Address {
	a, err := envelope.ParseAddress(s)
	if err != nil {
		panic(s + ": " + err.Error())
	}
	return a
}

func addrs(list ...string) []envelope.Address {
	var out []envelope.Address
	for _, s := range list {
		out = append(out, addr(s))
	}
	return out
}

func dn(name string) string { return "cn=" + name + ",dc=corp,dc=example" }

func dns(names ...string) []string {
	var out []string
	for _, n := range names {
		out = append(out, dn(n))
	}
	return out
}

// entry returns an active entry called name with the address
// name@corp.example, changed by f.
func entry(kind Kind, name string, f func(*Entry)) *Entry {
	e := &Entry{
		Key:      Key("test:" + name),
		DN:       dn(name),
		Kind:     kind,
		Primary:  addr(name + "@corp.example"),
		Login:    StateActive,
		Delivery: StateActive,
	}
	if kind == KindPerson {
		e.Logins = []string{name, name + "@corp.example"}
	}
	if f != nil {
		f(e)
	}
	return e
}

func person(name string) *Entry { return entry(KindPerson, name, nil) }

func list(name string, policy ListPolicy, members ...string) *Entry {
	return entry(KindList, name, func(e *Entry) { e.Policy, e.Members = policy, dns(members...) })
}

// corp is a small company with one of everything.
func corp(t testing.TB) *Snapshot {
	t.Helper()
	return NewSnapshot([]string{"corp.example", "例子.example"}, corpEntries())
}

func corpEntries() []*Entry {
	return []*Entry{
		entry(KindPerson, "alice", func(e *Entry) {
			e.Aliases, e.SID = addrs("a.example@corp.example"), "S-1-5-21-1-2-3-1104"
			e.X500 = []string{FoldX500("/o=Example/ou=Ex/cn=Recipients/cn=alice")}
		}),
		person("bob"),
		entry(KindPerson, "wangwei", func(e *Entry) {
			e.Aliases = addrs("王伟@corp.example", "wei@例子.example")
			e.Logins = append(e.Logins, FoldLogin("王伟"))
		}),
		person("carol"),
		entry(KindPerson, "dave", func(e *Entry) { e.Login = StateDisabled }),
		entry(KindPerson, "gone", func(e *Entry) { e.Login, e.Delivery = StateGrace, StateGrace }),
		entry(KindPerson, "held", func(e *Entry) { e.Delivery = StateHeld }),
		entry(KindPerson, "left", func(e *Entry) { e.Delivery = StateDisabled }),
		entry(KindPerson, "mover", func(e *Entry) { e.Forward = addrs("mover@other.example") }),
		entry(KindPerson, "copier", func(e *Entry) { e.Forward, e.KeepCopy = addrs("bob@corp.example"), true }),
		entry(KindPerson, "ping", func(e *Entry) { e.Forward = addrs("pong@corp.example") }),
		entry(KindPerson, "pong", func(e *Entry) { e.Forward = addrs("ping@corp.example") }),
		entry(KindPerson, "lost", func(e *Entry) { e.Forward = addrs("nobody@corp.example") }),
		entry(KindPerson, "twin1", func(e *Entry) { e.Aliases = addrs("twin@corp.example"); e.Logins = append(e.Logins, "twin") }),
		entry(KindPerson, "twin2", func(e *Entry) { e.Aliases = addrs("twin@corp.example"); e.Logins = append(e.Logins, "twin") }),
		entry(KindPerson, "guest", func(e *Entry) { e.Primary = addr("guest@other.example") }),
		entry(KindShared, "office", func(e *Entry) {
			e.Access, e.SendAs, e.OnBehalf = dns("sales"), dns("wangwei"), dns("sales")
		}),
		entry(KindRoom, "aula", nil),
		entry(KindContact, "partner", func(e *Entry) {
			e.Primary, e.Aliases = addr("Partner@other.example"), addrs("partner@corp.example")
		}),
		entry(KindElsewhere, "old", func(e *Entry) { e.NextHop = "exchange.corp.example" }),
		entry(KindElsewhere, "nowhere", nil),
		list("sales", ListOpen, "alice", "bob", "emea-sales"),
		list("emea-sales", 0, "wangwei", "carol", "sales"), // a circle
		list("members", ListMembers, "alice", "emea-sales"),
		entry(KindList, "owned", func(e *Entry) {
			e.Policy, e.Owners, e.Members = ListOwners, dns("carol"), dns("bob")
		}),
		entry(KindList, "asked", func(e *Entry) {
			e.Policy, e.Owners, e.Members = ListModerated, dns("carol"), dns("bob")
			e.Senders = dns("alice")
		}),
		list("empty", ListOpen),
		list("dead", ListOpen, "left", "nobody"),
		entry(KindList, "mixed", func(e *Entry) {
			e.Policy, e.Members = ListOpen, dns("partner", "old", "guest", "office", "held", "dave", "copier")
			e.ExternalMembers = addrs("x@far.example", "alice+list@corp.example", "Partner@other.example")
		}),
		list("ring1", ListOpen, "ring2", "alice"),
		list("ring2", ListOpen, "ring1"),
		entry(KindList, "rights", func(e *Entry) { e.Primary, e.Members = envelope.Address{}, dns("sales") }),
		{Key: "test:domain", Kind: KindDomain, DN: dn("brand"), Domains: []string{"brand.example"}},
	}
}
