// Package reroute lets mail that waits follow what the directory says. When somebody's
// mailbox comes here, or goes to another system, or when delivery to it is no longer
// held, what waits is due at once; the queue manager then finds the way that holds now.
//
// # Concurrency
//
// A Rerouter runs on every node that has the queue manager, and each looks by itself:
// what is due already is left alone, so that several do no harm. It follows the snapshots
// of its node, and looks once more a little later: a recipient that was being tried while
// the directory changed waits again by then, and the nodes do not change at the same
// moment.
//
// # Limits
//
// A change costs one look by index for the entries that it names, whatever the size of
// the queue and of the directory. What names too many (a directory read for the first
// time, a rule that has another group) costs a look at every recipient that waits, page
// by page, every ten seconds at most. So does the start of a node, which does not know
// what has changed while there was none.
//
// Mail for lists that are expanded when their turn comes, and mail for contacts, which
// has their address at the time when it came, is not looked at.
package reroute
