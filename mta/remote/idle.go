package remote

import (
	"sync"
	"time"
)

// maxIdle bounds how many connections wait, over all routes.
const maxIdle = 100

// idle keeps connections for a moment after use, by the name of their route.
type idle struct {
	keep time.Duration // negative: not at all

	mu     sync.Mutex // guards the fields below
	byName map[string][]*waiting
	n      int
	closed bool
}

type waiting struct {
	s     *session
	timer *time.Timer
}

// take returns a session to a route, nil if none waits.
func (p *idle) take(name string) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	for list := p.byName[name]; len(list) > 0; list = p.byName[name] {
		w := list[len(list)-1]
		p.removeLocked(name, w)
		if w.timer.Stop() {
			return w.s
		}
	}
	return nil
}

// put lets s wait for the next message of its route, or ends it.
func (p *idle) put(name string, s *session) {
	p.mu.Lock()
	if p.closed || p.keep < 0 || p.n >= maxIdle {
		p.mu.Unlock()
		s.quit()
		return
	}
	if p.byName == nil {
		p.byName = make(map[string][]*waiting)
	}
	w := &waiting{s: s}
	w.timer = time.AfterFunc(p.keep, func() { p.expire(name, w) })
	p.byName[name] = append(p.byName[name], w)
	p.n++
	p.mu.Unlock()
}

// expire ends a session that nobody wanted.
func (p *idle) expire(name string, w *waiting) {
	p.mu.Lock()
	p.removeLocked(name, w)
	p.mu.Unlock()
	w.s.quit()
}

func (p *idle) removeLocked(name string, w *waiting) {
	list := p.byName[name]
	for i := range list {
		if list[i] != w {
			continue
		}
		p.n--
		if len(list) == 1 {
			delete(p.byName, name)
		} else {
			p.byName[name] = append(list[:i:i], list[i+1:]...)
		}
		return
	}
}

// close ends all that wait, and whatever is put from now on.
func (p *idle) close() {
	p.mu.Lock()
	p.closed = true
	var all []*session
	for _, list := range p.byName {
		for _, w := range list {
			if w.timer.Stop() {
				all = append(all, w.s)
			}
		}
	}
	p.byName, p.n = nil, 0
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range all {
		wg.Go(s.quit)
	}
	wg.Wait()
}
