package imapd

import (
	"context"
	"errors"
	"slices"
	"strings"

	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"

	"golang.org/x/text/unicode/norm"
)

// listArgs are the arguments of LIST (RFC 9051 §6.3.9, RFC 5258 §3).
type listArgs struct {
	reference string
	patterns  []string

	extended         bool // selection options, several patterns or RETURN
	selectSubscribed bool
	selectSpecialUse bool
	recursiveMatch   bool
	returnSubscribed bool
	status           statusItems
}

// maxPatterns bounds the patterns of one LIST.
const maxPatterns = 100

// parseList takes [selection options] reference patterns [return options].
func parseList(dec *wire.Decoder) (a listArgs, err error) {
	dec.Space()
	if dec.Peek() == '(' {
		a.extended = true
		dec.List(func() { a.selection(dec) })
		if a.recursiveMatch && !a.selectSubscribed {
			dec.Fail("RECURSIVEMATCH needs a selection option to match") // RFC 5258 §3.1
		}
		dec.Space()
	}
	a.reference = dec.Mailbox()
	dec.Space()
	if dec.Peek() == '(' {
		a.extended = true
		dec.List(func() {
			if a.patterns = append(a.patterns, dec.ListMailbox()); len(a.patterns) > maxPatterns {
				dec.Fail("too many patterns")
			}
		})
	} else {
		a.patterns = []string{dec.ListMailbox()}
	}
	if dec.Skip(' ') {
		a.extended = true
		if string(dec.Word()) != "RETURN" {
			dec.Fail("expected RETURN")
		}
		dec.Space()
		dec.List(func() { a.result(dec) })
	}
	return a, dec.End()
}

func (a *listArgs) selection(dec *wire.Decoder) {
	switch string(dec.Word()) {
	case "SUBSCRIBED":
		a.selectSubscribed, a.returnSubscribed = true, true
	case "SPECIAL-USE":
		a.selectSpecialUse = true
	case "RECURSIVEMATCH":
		a.recursiveMatch = true
	case "REMOTE": // there are none
	default:
		dec.Fail("unknown selection option")
	}
}

func (a *listArgs) result(dec *wire.Decoder) {
	switch string(dec.Word()) {
	case "SUBSCRIBED":
		a.returnSubscribed = true
	case "CHILDREN", "SPECIAL-USE": // always returned
	case "STATUS":
		dec.Space()
		a.status = parseStatusItems(dec)
	default:
		dec.Fail("unknown return option")
	}
}

// matchers returns what a name must match, one matcher a pattern.
func (a *listArgs) matchers() []matcher {
	ms := make([]matcher, len(a.patterns))
	for i, p := range a.patterns {
		ms[i] = newMatcher(norm.NFC.String(a.reference + p))
	}
	return ms
}

// list is LIST.
func list(ctx context.Context, c *conn, dec *wire.Decoder) error {
	a, err := parseList(dec)
	if err != nil {
		return err
	}
	if len(a.patterns) == 1 && a.patterns[0] == "" && !a.extended {
		c.untagged(`LIST (\Noselect) "/" ""`) // asks for the separator only
		return nil
	}
	ms := a.matchers()
	names, err := c.tree(ctx, ms)
	if err != nil {
		return err
	}
	for _, n := range names {
		info := a.childInfo(names, n, ms)
		if !a.selects(n) && !info || !matchAny(ms, n.name) {
			continue
		}
		c.putList(&a, n, info)
		if a.status != 0 && n.exists {
			// RFC 5819 §2. A mailbox that went in between is left out.
			if err := c.putStatus(ctx, n.name, n.account, n.mailbox, a.status); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
	}
	return c.broken
}

// selects reports whether the selection options want n.
func (a *listArgs) selects(n *listed) bool {
	switch {
	case a.selectSubscribed && !n.subscribed:
		return false
	case a.selectSpecialUse && (!n.exists || n.mailbox.SpecialUse == ""):
		return false
	case a.selectSubscribed:
		return true
	}
	return n.exists || n.hasChildren // not what is only subscribed
}

// childInfo reports whether RECURSIVEMATCH makes n stand for a subscribed
// inferior that matches no pattern itself (RFC 5258 §3.5).
func (a *listArgs) childInfo(names []*listed, n *listed, ms []matcher) bool {
	if !a.recursiveMatch {
		return false
	}
	return slices.ContainsFunc(names, func(child *listed) bool {
		return child.subscribed && isInferior(child.name, n.name) && !matchAny(ms, child.name)
	})
}

// lsub is LSUB. "%" matches a level that only stands above a subscribed name: it
// comes with \Noselect (RFC 3501 §6.3.9).
func lsub(ctx context.Context, c *conn, dec *wire.Decoder) error {
	dec.Space()
	a := listArgs{reference: dec.Mailbox()}
	dec.Space()
	a.patterns = []string{dec.ListMailbox()}
	if err := dec.End(); err != nil {
		return err
	}
	if a.patterns[0] == "" {
		c.untagged(`LSUB (\Noselect) "/" ""`)
		return nil
	}
	ms := a.matchers()
	names, err := c.tree(ctx, ms)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !matchAny(ms, n.name) {
			continue
		}
		above := slices.ContainsFunc(names, func(m *listed) bool {
			return m.subscribed && isInferior(m.name, n.name) && !matchAny(ms, m.name)
		})
		if n.subscribed || above {
			c.putLsub(n)
		}
	}
	return c.broken
}

// putList writes a LIST response. Who does not ask for extensions may not know
// \NonExistent, and is told \Noselect too.
func (c *conn) putList(a *listArgs, n *listed, childInfo bool) {
	var attrs []string
	if !n.exists {
		attrs = append(attrs, `\NonExistent`)
		if !a.extended {
			attrs = append(attrs, `\Noselect`)
		}
	}
	if n.hasChildren {
		attrs = append(attrs, `\HasChildren`)
	} else {
		attrs = append(attrs, `\HasNoChildren`)
	}
	if n.subscribed && a.returnSubscribed {
		attrs = append(attrs, `\Subscribed`)
	}
	if n.exists && n.mailbox.SpecialUse != "" {
		attrs = append(attrs, string(n.mailbox.SpecialUse))
	}
	b := append(c.buf(), "* LIST ("...)
	b = append(append(b, strings.Join(attrs, " ")...), `) "/" `...)
	b = wire.AppendMailbox(b, n.name, c.utf8)
	if childInfo {
		b = append(b, ` ("CHILDINFO" ("SUBSCRIBED"))`...)
	}
	c.put(append(b, "\r\n"...))
}

// putLsub writes an LSUB response.
func (c *conn) putLsub(n *listed) {
	b := append(c.buf(), "* LSUB ("...)
	if !n.subscribed {
		b = append(b, `\Noselect`...)
	}
	b = append(b, `) "/" `...)
	b = wire.AppendMailbox(b, n.name, c.utf8)
	c.put(append(b, "\r\n"...))
}

// listed is a name that LIST may answer with.
type listed struct {
	name        string
	account     store.AccountID
	mailbox     store.Mailbox
	exists      bool
	subscribed  bool
	hasChildren bool
}

// tree returns all names that the person can see, in order: mailboxes, the
// levels above them, and subscribed names. Shared mailboxes are looked up only
// where a pattern can match them.
func (c *conn) tree(ctx context.Context, ms []matcher) ([]*listed, error) {
	if err := c.own(ctx); err != nil {
		return nil, err
	}
	t := tree{}
	own, err := c.srv.store.Mailboxes(ctx, c.account.ID)
	if err != nil {
		return nil, err
	}
	for _, mb := range own {
		t.add(mb.Name, c.account.ID, mb)
	}
	if slices.ContainsFunc(ms, func(m matcher) bool { return m.mayMatchBelow(sharedRoot) }) {
		if err := c.addShared(ctx, t); err != nil {
			return nil, err
		}
	}
	subscribed, err := c.srv.store.Subscriptions(ctx, c.account.ID)
	if err != nil {
		return nil, err
	}
	for _, name := range subscribed {
		t.get(name).subscribed = true
		t.above(name)
	}
	return t.sorted(), nil
}

func (c *conn) addShared(ctx context.Context, t tree) error {
	for _, e := range c.sharedEntries() {
		a, err := c.srv.store.Account(ctx, string(e.Key), store.KindShared)
		if err != nil {
			return err
		}
		all, err := c.srv.store.Mailboxes(ctx, a.ID)
		if err != nil {
			return err
		}
		for _, mb := range all {
			// Subscriptions and uses of a shared mailbox are not the
			// reader's: two mailboxes with \Sent would confuse.
			mb.Subscribed, mb.SpecialUse = false, ""
			t.add(fullName(e, mb.Name), a.ID, mb)
		}
	}
	return nil
}

// tree is the names by name.
type tree map[string]*listed

// get returns the entry of name, and makes it.
func (t tree) get(name string) *listed {
	n, ok := t[name]
	if !ok {
		n = &listed{name: name}
		t[name] = n
	}
	return n
}

// add adds a mailbox and the levels above it.
func (t tree) add(name string, a store.AccountID, mb store.Mailbox) {
	n := t.get(name)
	n.account, n.mailbox, n.exists, n.subscribed = a, mb, true, n.subscribed || mb.Subscribed
	for _, parent := range t.above(name) {
		parent.hasChildren = true
	}
}

// above returns the levels above name.
func (t tree) above(name string) []*listed {
	var levels []*listed
	for i := strings.LastIndexByte(name, separator[0]); i > 0; i = strings.LastIndexByte(name[:i], separator[0]) {
		levels = append(levels, t.get(name[:i]))
	}
	return levels
}

// sorted returns the names, INBOX first, parents before their inferiors.
func (t tree) sorted() []*listed {
	all := make([]*listed, 0, len(t))
	for _, n := range t {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b *listed) int {
		switch {
		case a.name == b.name:
			return 0
		case a.name == "INBOX":
			return -1
		case b.name == "INBOX":
			return 1
		}
		return strings.Compare(strings.ReplaceAll(a.name, separator, "\x00"), strings.ReplaceAll(b.name, separator, "\x00"))
	})
	return all
}
