package permit

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// spray counts for how many accounts a password has failed. What fails for one
// account only, as nearly all that is guessed at random, never leaves the node.
type spray struct {
	enough int
	window time.Duration

	mu      sync.Mutex // guards what follows
	seen    map[sum]*sprayed
	refused map[sum]time.Time // until when
}

// sprayed is one password that failed.
type sprayed struct {
	accounts []int64 // distinct, at most enough
	tries    int64   // since the last flush
	last     time.Time
}

// The bounds of what is remembered of passwords.
const (
	maxSprayed     = 1 << 16 // that failed lately, in a node
	maxSprayShared = 2000    // that a node tells the others at once
	maxSprayBarred = 10_000  // that are refused to strangers
)

func newSpray(c Config) *spray {
	return &spray{enough: c.SprayAccounts, window: c.SprayWindow, seen: map[sum]*sprayed{}, refused: map[sum]time.Time{}}
}

// isRefused reports whether strangers are refused the password p.
func (s *spray) isRefused(p sum, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.refused[p])
}

// failed counts that p was tried with the name account and did not let in.
func (s *spray) failed(p sum, account int64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.seen[p]
	if e == nil || now.Sub(e.last) > s.window {
		if len(s.seen) >= maxSprayed {
			s.forgetLocked(now)
		}
		e = &sprayed{}
		s.seen[p] = e
	}
	e.tries++
	e.last = now
	if len(e.accounts) < s.enough && !slices.Contains(e.accounts, account) {
		e.accounts = append(e.accounts, account)
	}
	if len(e.accounts) >= s.enough {
		s.refused[p] = now.Add(s.window)
	}
}

// forgetLocked makes room: first by what failed for one account only.
func (s *spray) forgetLocked(now time.Time) {
	for p, e := range s.seen {
		if now.Sub(e.last) > s.window {
			delete(s.seen, p)
		}
	}
	for _, most := range []int{1, s.enough} {
		for p, e := range s.seen {
			if len(s.seen) < maxSprayed*7/8 {
				return
			}
			if len(e.accounts) <= most {
				delete(s.seen, p)
			}
		}
	}
}

// report is what the other nodes should know of a password.
type report struct {
	password sum
	accounts []int64
	tries    int64
}

// news returns what has failed for several accounts since it was last asked, the
// most widely tried first.
func (s *spray) news() []report {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []report
	for p, e := range s.seen {
		if e.tries > 0 && len(e.accounts) > 1 {
			all = append(all, report{p, slices.Clone(e.accounts), e.tries})
		}
	}
	slices.SortFunc(all, func(a, b report) int {
		return cmp.Or(cmp.Compare(len(b.accounts), len(a.accounts)), cmp.Compare(b.tries, a.tries))
	})
	if len(all) > maxSprayShared {
		all = all[:maxSprayShared]
	}
	for _, r := range all {
		s.seen[r.password].tries -= r.tries
	}
	return all
}

// refuse adds what other nodes have found, and forgets what is over.
func (s *spray) refuse(found map[sum]time.Time, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, until := range s.refused {
		if !now.Before(until) {
			delete(s.refused, p)
		}
	}
	for p, until := range found {
		if len(s.refused) >= 2*maxSprayBarred {
			return
		}
		if until.After(s.refused[p]) {
			s.refused[p] = until
		}
	}
}
