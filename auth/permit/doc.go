// Package permit keeps an attack on our ports from doing harm to the domain: no
// account is locked by passwords that are guessed here, and a password that is
// tried on everybody is not tried for long.
//
// Before a directory judges a password, a permit is taken from a counter that all
// nodes share in the database. There are fewer permits than wrong passwords that
// the directory forgives: Config.Reserve less for strangers, one less for those
// who come from where the person has logged in before: the network, with the same
// client certificate, or by a device that has come back. The directory itself is
// asked how many it counts already, since what is tried elsewhere in the company
// counts there too. A permit that is not given back, because a node has died,
// counts as a wrong password.
//
// What needs no permit: passwords that this node remembers as right, Kerberos,
// tokens, certificates, passwords that we have issued. What gets none: a wrong
// password that comes again, a password that has failed for many accounts, a
// stranger from a network that guesses too much. All of that is answered as any
// wrong password.
//
// # Concurrency
//
// All methods may be called from any goroutine. Requests that wait for the
// database at the same time go to it as one transaction.
//
// # Limits
//
// What strangers can fill is bounded: in memory by the constants of this package,
// in the database by Run, which forgets the oldest.
//
// # Security
//
// Passwords are kept as HMACs only, under a key made of the sealing key of the
// nodes, which is not in the database. Without one the key exists in this process
// alone, and nothing made with it leaves it.
//
// A device is known by a secret that was given to it at a connection by which the
// person has logged in, and which it has shown to have. It changes how many passwords
// are judged, and nothing else; and it is none any more once the password was set.
//
// While the database is away nobody gets a permit, and a login that would need one
// is a temporary failure.
//
// # Bugs
//
// A right password is taken to reset the count of the whole domain. A domain
// controller tells the primary one so, but not if it had counted no wrong password
// itself: who logs in by another controller than the one that counted leaves the
// primary's count as it is. Where the directory's count can be read, that is made up
// for before the next permit.
//
// Of a directory that does not say when a password was set, devices outlive a change
// that was not made on the page. A node that has not seen a device does not take it from
// the database when its person is disabled, and no password is judged then.
//
// Where passwords are judged by Kerberos, a password to which no answer came is taken
// for not counted.
//
// Everybody behind one address is one network: people of a webmail that does not
// pass on the addresses of its clients are familiar together with those who guess
// by it. If it resumes TLS sessions it is one device, too.
package permit
