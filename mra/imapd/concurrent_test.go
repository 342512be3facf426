package imapd

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Sessions that change one mailbox at the same time: each client keeps the list
// of messages that the responses describe, and every number in them must fit it
// (RFC 9051 §7.5.1, §5.2). In the end all of them see the same.
func TestManySessions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	if err := f.given(t, "p1", "INBOX: 20 messages"); err != nil {
		t.Fatal(err)
	}
	const sessions, commands = 6, 120
	models := make([]*model, sessions)
	var wg sync.WaitGroup
	for i := range models {
		wg.Go(func() {
			m, err := newModel(f)
			for n := 0; err == nil && n < commands; n++ {
				err = m.do(m.random())
			}
			if err != nil {
				t.Errorf("session %d: %v", i, err)
				return
			}
			models[i] = m
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	var first string
	for i, m := range models {
		if err := m.do("NOOP"); err != nil {
			t.Fatal(err)
		}
		m.seen = nil
		believed := maps.Clone(m.known)
		if len(m.uids) > 0 {
			if err := m.do("FETCH 1:* (UID FLAGS)"); err != nil {
				t.Fatal(err)
			}
		}
		m.conn.Close()
		for _, uid := range m.uids {
			b, ok := believed[uid]
			slices.Sort(b)
			slices.Sort(m.known[uid])
			if ok && !slices.Equal(b, m.known[uid]) {
				t.Errorf("session %d was told that %d has %v, and it has %v", i, uid, b, m.known[uid])
			}
		}
		got := strings.ReplaceAll(strings.ReplaceAll(strings.Join(m.seen, "\n"), ` \Recent`, ""), `\Recent`, "")
		if i == 0 {
			first = got
		} else if got != first {
			t.Errorf("session %d sees\n%s\nand session 0\n%s", i, got, first)
		}
	}
}

// model is a client that believes what it is told, and checks it.
type model struct {
	conn  net.Conn
	r     *bufio.Reader
	rand  *rand.Rand
	uids  []int // by sequence number; 0 where it was not told
	flags map[string]bool
	known map[int][]string // the flags of a UID, as told or as made by STORE
	tag   int
	seen  []string // FETCH responses
}

func newModel(f *fixture) (*model, error) {
	conn, err := f.dial("p1")
	if err != nil {
		return nil, err
	}
	m := &model{conn: conn, r: bufio.NewReader(conn), rand: rand.New(rand.NewPCG(rand.Uint64(), 1)), flags: map[string]bool{}, known: map[int][]string{}}
	if err := m.do("SELECT INBOX"); err != nil {
		return nil, err
	}
	return m, m.do("FETCH 1:* (UID FLAGS)")
}

// random makes up a command.
func (m *model) random() string {
	n := len(m.uids)
	seq := fmt.Sprint(m.rand.IntN(n+1) + 1)
	if n > 0 {
		seq = fmt.Sprintf("%d:%d", m.rand.IntN(n)+1, m.rand.IntN(n)+1)
	}
	flag := []string{`\Seen`, `\Flagged`, `\Deleted`, "$Kw" + fmt.Sprint(m.rand.IntN(4))}[m.rand.IntN(4)]
	sign := []string{"+", "-", ""}[m.rand.IntN(3)]
	switch k := m.rand.IntN(14); {
	case k == 0 || n == 0:
		return "APPEND INBOX (" + strings.TrimSuffix(flag, "x") + ") {8+}\r\nX: y\r\n\r\n"
	case k == 1:
		return "EXPUNGE"
	case k < 4:
		return "FETCH " + seq + " (UID FLAGS)"
	case k == 4:
		return "FETCH " + seq + " (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (SUBJECT)])"
	case k < 8:
		return "STORE " + seq + " " + sign + "FLAGS" + []string{"", ".SILENT"}[m.rand.IntN(2)] + " (" + flag + ")"
	case k == 8:
		return "UID FETCH 1:* (FLAGS)"
	case k == 9:
		return "SEARCH UNSEEN"
	case k == 10:
		return "COPY " + strconv.Itoa(m.rand.IntN(n)+1) + " INBOX"
	case k == 11:
		return "UID STORE 1:* +FLAGS.SILENT (" + flag + ")"
	case k == 12:
		return "MOVE " + strconv.Itoa(m.rand.IntN(n)+1) + " INBOX"
	}
	return "NOOP"
}

var (
	numbered  = regexp.MustCompile(`^\* (\d+) (EXISTS|RECENT|EXPUNGE|FETCH)`)
	fetchUID  = regexp.MustCompile(`[( ]UID (\d+)`)
	fetchFlag = regexp.MustCompile(`FLAGS \(([^)]*)\)`)
)

// do sends a command and checks what comes until it is completed.
func (m *model) do(command string) error {
	m.tag++
	tag := fmt.Sprintf("t%d", m.tag)
	if err := m.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(m.conn, "%s %s\r\n", tag, command); err != nil {
		return err
	}
	m.believe(command)
	for {
		line, err := m.r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			if !strings.HasPrefix(rest, "OK") {
				return fmt.Errorf("%s: %s", command, rest)
			}
			return nil
		}
		if err := m.untagged(command, strings.TrimSpace(line)); err != nil {
			return fmt.Errorf("%s: %s: %w", command, line, err)
		}
	}
}

var silentStore = regexp.MustCompile(`^(UID )?STORE (\d+):(\d+|\*) ([+-]?)FLAGS.SILENT \((\S+)\)`)

// believe does to the known flags what a silent STORE asks for: of these the
// client is only told where somebody else has changed them too.
func (m *model) believe(command string) {
	p := silentStore.FindStringSubmatch(command)
	if p == nil {
		return
	}
	from, _ := strconv.Atoi(p[2])
	to, _ := strconv.Atoi(p[3])
	if p[1] != "" {
		from, to = 1, len(m.uids)
	}
	for _, uid := range m.uids[min(from, to)-1 : max(from, to)] {
		was, ok := m.known[uid]
		switch {
		case p[4] == "":
			m.known[uid] = []string{p[5]}
		case ok:
			is := slices.DeleteFunc(slices.Clone(was), func(f string) bool { return f == p[5] })
			if p[4] == "+" {
				is = append(is, p[5])
			}
			m.known[uid] = is
		}
	}
}

func (m *model) untagged(command, line string) error {
	if list, ok := strings.CutPrefix(line, "* FLAGS ("); ok {
		for _, fl := range strings.Fields(strings.TrimSuffix(list, ")")) {
			m.flags[fl] = true
		}
	}
	p := numbered.FindStringSubmatch(line)
	if p == nil {
		return nil
	}
	n, _ := strconv.Atoi(p[1])
	switch p[2] {
	case "EXISTS":
		if strings.HasPrefix(command, "SELECT") {
			m.uids = nil
		}
		if n < len(m.uids) {
			return fmt.Errorf("there were %d", len(m.uids))
		}
		m.uids = append(m.uids, make([]int, n-len(m.uids))...)
	case "RECENT":
		if n > len(m.uids) {
			return fmt.Errorf("there are %d", len(m.uids))
		}
	case "EXPUNGE":
		verb, _, _ := strings.Cut(command, " ")
		if verb == "FETCH" || verb == "STORE" || verb == "SEARCH" {
			return fmt.Errorf("not during %s", verb)
		}
		if n < 1 || n > len(m.uids) {
			return fmt.Errorf("there are %d", len(m.uids))
		}
		m.uids = slices.Delete(m.uids, n-1, n)
	case "FETCH":
		return m.fetched(command, n, line)
	}
	return nil
}

// learn takes the flags of a FETCH response.
func (m *model) learn(uid int, line string) {
	if p := fetchFlag.FindStringSubmatch(line); p != nil {
		m.known[uid] = slices.DeleteFunc(strings.Fields(p[1]), func(f string) bool { return f == `\Recent` })
	}
}

func (m *model) fetched(command string, n int, line string) error {
	m.seen = append(m.seen, line)
	if n < 1 || n > len(m.uids) {
		return fmt.Errorf("there are %d", len(m.uids))
	}
	if p := fetchFlag.FindStringSubmatch(line); p != nil {
		for _, fl := range strings.Fields(p[1]) {
			if fl != `\Recent` && !m.flags[fl] {
				return fmt.Errorf("flag %s was not announced", fl)
			}
		}
	}
	p := fetchUID.FindStringSubmatch(line)
	if p == nil {
		if uid := m.uids[n-1]; uid != 0 {
			m.learn(uid, line)
		}
		return nil
	}
	uid, _ := strconv.Atoi(p[1])
	// What was asked for is what was told before: changes come after it,
	// without UID.
	was, ok := m.known[uid]
	was = slices.Sorted(slices.Values(was))
	m.learn(uid, line)
	if is := slices.Sorted(slices.Values(m.known[uid])); ok && strings.Contains(command, "FETCH") && !slices.Equal(was, is) {
		return fmt.Errorf("flags were %v", was)
	}
	if m.uids[n-1] != 0 && m.uids[n-1] != uid {
		return fmt.Errorf("message %d was %d", n, m.uids[n-1])
	}
	m.uids[n-1] = uid
	for i, u := range m.uids {
		if u != 0 && (i < n-1 && u >= uid || i > n-1 && u <= uid) {
			return fmt.Errorf("message %d has UID %d", i+1, u)
		}
	}
	return nil
}
