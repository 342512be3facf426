package roster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"dirpost/auth"
	"dirpost/auth/apppassword"
	"dirpost/directory"
)

// The topics of the hints.
const (
	topicAsk    = "sessions-ask"
	topicAnswer = "sessions-answer"
	topicEnd    = "sessions-end"
)

const (
	// answerTime is how long is waited for other nodes.
	answerTime = 500 * time.Millisecond
	// maxSessions is how many sessions of a person a node tells of, maxAnswers how many
	// answers are waited for at once.
	maxSessions = 100
	maxAnswers  = 1000
	// perHint is how many sessions go into one hint, which may have 1,000 octets
	// (internal/bus).
	perHint = 2
	// maxName bounds a login name, in octets.
	maxName = 64
)

// Hints carries questions and answers; *bus.Bus is one.
type Hints interface {
	// Publish hands payload to the subscribers of topic on all nodes.
	Publish(topic, payload string)
	Subscribe(topic string, f func(payload string)) (cancel func())
	// Nodes is how many other nodes were heard lately.
	Nodes() int
}

// Sessions are those of this node; *auth.Bridge has them.
type Sessions interface {
	Sessions(person directory.Key) []auth.Session
	EndSession(person directory.Key, ref, reason string) bool
}

// Roster asks all nodes.
type Roster struct {
	node  string
	here  Sessions // nil: nobody logs in on this node
	hints Hints
	log   *slog.Logger

	mu      sync.Mutex // guards waiting
	waiting map[string]*inquiry
}

// inquiry is a question that waits for answers.
type inquiry struct {
	answered map[string]int // by node: how many parts of its answer are missing
	sessions map[string]auth.Session
	more     chan struct{} // capacity 1: something has come
}

// question asks for the sessions of a person.
type question struct {
	ID     string        `json:"q"`
	Person directory.Key `json:"p"`
}

// answer is a part of what one node has.
type answer struct {
	ID    string `json:"q"`
	Node  string `json:"n"`
	Parts int    `json:"of"`
	Part  int    `json:"i"` // so that no two are the same hint
	Has   []told `json:"s,omitempty"`
}

// told is a session in a hint.
type told struct {
	Ref       string         `json:"r"`
	Person    directory.Key  `json:"p"`
	Actor     directory.Key  `json:"a,omitempty"`
	Authcid   string         `json:"u"`
	Protocol  string         `json:"o"`
	Mechanism string         `json:"m"`
	App       apppassword.ID `json:"w,omitempty"`
	Client    netip.Addr     `json:"c"`
	Since     int64          `json:"b"` // Unix seconds
	Active    int64          `json:"l,omitempty"`
}

// ending ends a session.
type ending struct {
	Person directory.Key `json:"p"`
	Ref    string        `json:"r"`
}

// New returns a Roster of a node whose sessions are here; nil: it has none, and says
// so. It answers from now on, until stop is called.
func New(here Sessions, hints Hints, log *slog.Logger) (r *Roster, stop func()) {
	r = &Roster{node: newID(), here: here, hints: hints, log: log, waiting: map[string]*inquiry{}}
	cancels := []func(){
		hints.Subscribe(topicAsk, r.asked),
		hints.Subscribe(topicAnswer, r.answered),
		hints.Subscribe(topicEnd, r.ended),
	}
	return r, func() {
		for _, cancel := range cancels {
			cancel()
		}
	}
}

// Of returns the sessions of a person on all nodes, the oldest first. complete is false
// where a node has not answered in time.
func (r *Roster) Of(ctx context.Context, person directory.Key) (all []auth.Session, complete bool) {
	q := question{newID(), person}
	i := &inquiry{answered: map[string]int{}, sessions: map[string]auth.Session{}, more: make(chan struct{}, 1)}
	if !r.begin(q.ID, i) {
		return nil, false
	}
	defer r.end(q.ID)
	r.publish(topicAsk, q) // to ourselves too
	limit := time.NewTimer(answerTime)
	defer limit.Stop()
	for !complete {
		complete = r.isComplete(i)
		if complete {
			break
		}
		select {
		case <-i.more:
			continue
		case <-limit.C:
		case <-ctx.Done():
		}
		break
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	all = slices.Collect(maps.Values(i.sessions))
	slices.SortFunc(all, func(x, y auth.Session) int { return x.Since.Compare(y.Since) })
	return all, complete
}

// End ends a session of a person, wherever it is. It does not wait.
func (r *Roster) End(person directory.Key, ref string) { r.publish(topicEnd, ending{person, ref}) }

func (r *Roster) begin(id string, i *inquiry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) >= maxAnswers {
		return false
	}
	r.waiting[id] = i
	return true
}

func (r *Roster) end(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, id)
}

// isComplete reports whether this node and all others have answered.
func (r *Roster) isComplete(i *inquiry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, missing := range i.answered {
		if missing == 0 {
			n++
		}
	}
	return n > r.hints.Nodes()
}

// asked answers a question.
func (r *Roster) asked(payload string) {
	var q question
	if payload == "" || json.Unmarshal([]byte(payload), &q) != nil {
		return
	}
	var all []auth.Session
	if r.here != nil {
		all = r.here.Sessions(q.Person)
		all = all[:min(len(all), maxSessions)]
	}
	parts := max(1, (len(all)+perHint-1)/perHint)
	for n := range parts {
		a := answer{ID: q.ID, Node: r.node, Parts: parts, Part: n}
		for _, s := range all[n*perHint : min(len(all), (n+1)*perHint)] {
			a.Has = append(a.Has, tell(s))
		}
		r.publish(topicAnswer, a)
	}
}

// answered takes a part of an answer.
func (r *Roster) answered(payload string) {
	var a answer
	if payload == "" || json.Unmarshal([]byte(payload), &a) != nil || a.Parts < 1 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.waiting[a.ID]
	if i == nil {
		return
	}
	missing, begun := i.answered[a.Node]
	if !begun {
		missing = a.Parts
	}
	i.answered[a.Node] = max(0, missing-1)
	for _, t := range a.Has {
		i.sessions[t.Ref] = t.session()
	}
	select {
	case i.more <- struct{}{}:
	default:
	}
}

// ended ends a session, if this node has it.
func (r *Roster) ended(payload string) {
	var e ending
	if payload == "" || r.here == nil || json.Unmarshal([]byte(payload), &e) != nil || e.Ref == "" {
		return
	}
	if r.here.EndSession(e.Person, e.Ref, "ended by the person") {
		r.log.Info("session ended by the person", "user", string(e.Person))
	}
}

func (r *Roster) publish(topic string, v any) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)              // which would make it longer
	if err := e.Encode(v); err != nil { // of these types it cannot fail
		r.log.Error("hint about sessions", "err", err)
		return
	}
	r.hints.Publish(topic, strings.TrimSuffix(b.String(), "\n"))
}

func tell(s auth.Session) told {
	t := told{
		Ref: s.Ref, Person: s.Person, Authcid: shorten(s.Authcid), Protocol: s.Protocol, Mechanism: s.Mechanism,
		App: s.AppPassword, Client: s.Client, Since: s.Since.Unix(),
	}
	if s.Actor != s.Person {
		t.Actor = s.Actor
	}
	if !s.Active.IsZero() {
		t.Active = s.Active.Unix()
	}
	return t
}

func (t told) session() auth.Session {
	s := auth.Session{
		Ref: t.Ref, Person: t.Person, Actor: t.Actor, Authcid: t.Authcid, Protocol: t.Protocol, Mechanism: t.Mechanism,
		AppPassword: t.App, Client: t.Client, Since: time.Unix(t.Since, 0),
	}
	if s.Actor == "" {
		s.Actor = s.Person
	}
	if t.Active != 0 {
		s.Active = time.Unix(t.Active, 0)
	}
	return s
}

// shorten bounds what a client has typed, and takes out what would be longer in a hint.
func shorten(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, name[:min(len(name), maxName)])
	return strings.ToValidUTF8(name, "")
}

// newID names a question or a node.
func newID() string { return rand.Text() }
