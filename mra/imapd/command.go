package imapd

import (
	"context"

	"dirpost/mra/imapd/wire"
)

// state is a set of the states of RFC 9051 §3.
type state uint8

// The states of a session.
const (
	notAuthenticated state = 1 << iota
	authenticated
	selected

	anyState = notAuthenticated | authenticated | selected
	loggedIn = authenticated | selected
)

// effect is a set of things that a command does to the session's view.
type effect uint8

// The effects of commands.
const (
	// usesSeq: the command takes or returns message sequence numbers, so no
	// EXPUNGE may be sent while it is in progress.
	usesSeq effect = 1 << iota
	// sendsExpunge: the client waits for EXPUNGE as the outcome, which is sent
	// even when it has sent more commands already.
	sendsExpunge
	// asks: the mailbox is looked at without waiting for a hint that it has
	// changed.
	asks
	// inline: the command runs on the session's own goroutine, since it may
	// last for hours.
	inline
	// silent: nothing about the mailbox is told: the command leaves it, or the
	// session.
	silent
)

// command describes one IMAP command. States and effects are data, so that the
// rule when EXPUNGE may be sent lives in one function, mayExpunge, and not in
// every handler.
type command struct {
	states  state
	effects effect
	run     func(ctx context.Context, c *conn, dec *wire.Decoder) error
}

// commands are the commands with their states and effects. It is never written.
var commands = map[string]*command{
	"CAPABILITY": {anyState, 0, capability},  // RFC 9051 §6.1.1
	"NOOP":       {anyState, asks, noop},     // RFC 9051 §6.1.2
	"LOGOUT":     {anyState, silent, logout}, // RFC 9051 §6.1.3
	"ID":         {anyState, 0, id},          // RFC 2971 §3.1

	"STARTTLS":     {notAuthenticated, silent, startTLS},     // RFC 9051 §6.2.1
	"AUTHENTICATE": {notAuthenticated, silent, authenticate}, // RFC 9051 §6.2.2
	"LOGIN":        {notAuthenticated, silent, login},        // RFC 9051 §6.2.3

	"ENABLE":      {authenticated | selected, 0, enable},   // RFC 9051 §6.3.1
	"SELECT":      {loggedIn, silent, selectMailbox},       // RFC 9051 §6.3.2
	"EXAMINE":     {loggedIn, silent, examine},             // RFC 9051 §6.3.3
	"CREATE":      {loggedIn, 0, create},                   // RFC 9051 §6.3.4
	"DELETE":      {loggedIn, 0, deleteMailbox},            // RFC 9051 §6.3.5
	"RENAME":      {loggedIn, 0, rename},                   // RFC 9051 §6.3.6
	"SUBSCRIBE":   {loggedIn, 0, subscribe},                // RFC 9051 §6.3.7
	"UNSUBSCRIBE": {loggedIn, 0, unsubscribe},              // RFC 9051 §6.3.8
	"LIST":        {loggedIn, 0, list},                     // RFC 9051 §6.3.9
	"LSUB":        {loggedIn, 0, lsub},                     // RFC 3501 §6.3.9
	"NAMESPACE":   {loggedIn, 0, namespace},                // RFC 9051 §6.3.10
	"STATUS":      {loggedIn, 0, status},                   // RFC 9051 §6.3.11
	"APPEND":      {loggedIn, 0, appendMessages},           // RFC 9051 §6.3.12
	"IDLE":        {loggedIn, inline | sendsExpunge, idle}, // RFC 9051 §6.3.13

	"CHECK":       {selected, asks, noop},                      // RFC 3501 §6.4.1
	"CLOSE":       {selected, silent, closeSelected},           // RFC 9051 §6.4.1
	"UNSELECT":    {selected, silent, unselect},                // RFC 9051 §6.4.2
	"EXPUNGE":     {selected, asks | sendsExpunge, expunge},    // RFC 9051 §6.4.3
	"SEARCH":      {selected, usesSeq, search},                 // RFC 9051 §6.4.4
	"FETCH":       {selected, usesSeq, fetch},                  // RFC 9051 §6.4.5
	"STORE":       {selected, usesSeq, storeFlags},             // RFC 9051 §6.4.6
	"COPY":        {selected, 0, copyMessages},                 // RFC 9051 §6.4.7
	"MOVE":        {selected, asks | sendsExpunge, move},       // RFC 9051 §6.4.8
	"UID SEARCH":  {selected, 0, uidSearch},                    // RFC 9051 §6.4.9
	"UID FETCH":   {selected, 0, uidFetch},                     // RFC 9051 §6.4.9
	"UID STORE":   {selected, 0, uidStore},                     // RFC 9051 §6.4.9
	"UID COPY":    {selected, 0, uidCopy},                      // RFC 9051 §6.4.9
	"UID MOVE":    {selected, asks | sendsExpunge, uidMove},    // RFC 6851 §3.1
	"UID EXPUNGE": {selected, asks | sendsExpunge, uidExpunge}, // RFC 9051 §6.4.9
}

// mayExpunge says whether EXPUNGE responses may be sent before the end of a
// command (RFC 9051 §7.5.1): not while FETCH, STORE or SEARCH is in progress.
// COPY is not among them, the UID forms are not, and nothing may be sent when no
// command is in progress, which this server never does.
//
// A client that has sent more already may count messages there as it last knew
// them (RFC 9051 §5.5). Only where it asked for it are they renumbered then.
func (c *conn) mayExpunge(e effect) bool {
	switch {
	case e&usesSeq != 0:
		return false
	case e&sendsExpunge != 0:
		return true
	}
	return c.mc.Reader().Buffered() == 0
}
