package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 3, "rounds of each cell; the median counts")
	only := flag.String("only", "", "workloads to run, separated by commas (inbound, bare, logins, pop3, relay, list, large, grow, idle), or remembered, which needs targets that remember passwords")
	users := flag.Int("users", 100, "load users that every target has")
	idles := flag.Int("idle", 1000, "idle sessions")
	grown := flag.Int("grow", 100_000, "messages that the grown mailbox holds")
	factor := flag.Float64("messages", 1, "scale of the number of messages")
	match := flag.String("match", "", "run only cells of inbound and bare whose label contains this, say 1 sessions, pipelined")
	sink := flag.String("sink", "", "HOST:PORT of the outside that the targets send to; without it relaying is not measured")
	flag.Parse()
	if err := run(flag.Args(), *only, bench{rounds: *rounds, users: *users, idle: *idles, grown: *grown, factor: *factor, match: *match, sink: *sink}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run over all targets.
type bench struct {
	rounds, users, idle, grown int
	factor                     float64
	match, sink                string
	targets                    []*target
	out                        *tabwriter.Writer
	serial                     int
}

func run(args []string, only string, b bench) error {
	for _, arg := range args {
		name, file, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not NAME=ENVFILE", arg)
		}
		t, err := readTarget(name, file)
		if err != nil {
			return err
		}
		b.targets = append(b.targets, t)
	}
	if len(b.targets) == 0 {
		return fmt.Errorf("no target; give NAME=ENVFILE")
	}
	b.out = tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer b.out.Flush()
	for _, w := range []struct {
		name string
		run  func(*bench) error
	}{{"inbound", (*bench).inbound}, {"bare", (*bench).bare}, {"logins", (*bench).logins}, {"pop3", (*bench).pop3}, {"relay", (*bench).relay}, {"list", (*bench).list}, {"large", (*bench).large}, {"grow", (*bench).grow}, {"idle", (*bench).idles}, {"remembered", (*bench).remembered}} {
		if only == "" && w.name == "remembered" {
			continue
		}
		if only != "" && !slices.Contains(strings.Split(only, ","), w.name) {
			continue
		}
		if err := w.run(&b); err != nil {
			b.out.Flush()
			return fmt.Errorf("%s: %w", w.name, err)
		}
		b.out.Flush()
		fmt.Println()
	}
	return nil
}

// cell is what one round of one workload on one target gave.
type cell struct {
	rate     float64       // per second
	answered float64       // inbound: per second until the last 250, nobody looking
	cpu      time.Duration // per unit, all processes of the target
	p50      time.Duration
	p99      time.Duration
}

func median[T ~float64 | ~int64](v []T) T {
	slices.Sort(v)
	return v[len(v)/2]
}

// rounds runs f on every target in turn and reports medians, and the ratio of
// each target to the last one, the peer.
func (b *bench) eachRound(label, unit string, f func(t *target) (cell, error)) error {
	got := make([][]cell, len(b.targets))
	for range b.rounds {
		for i, t := range b.targets {
			c, err := f(t)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			got[i] = append(got[i], c)
		}
	}
	mid := make([]cell, len(got))
	for i, cells := range got {
		var rate []float64
		var cpu, p50, p99 []time.Duration
		for _, c := range cells {
			rate, cpu, p50, p99 = append(rate, c.rate), append(cpu, c.cpu), append(p50, c.p50), append(p99, c.p99)
		}
		mid[i] = cell{rate: median(rate), cpu: median(cpu), p50: median(p50), p99: median(p99)}
	}
	last := mid[len(mid)-1]
	for i, m := range mid {
		ratio := ""
		if len(mid) > 1 && i < len(mid)-1 {
			ratio = fmt.Sprintf("%.2fx", m.rate/last.rate)
		}
		fmt.Fprintf(b.out, "%s\t%s\t%.0f %s/s\t%.3f ms CPU\t%.1f ms p50\t%.1f ms p99\t%s\t\n", label, b.targets[i].name, m.rate, unit,
			float64(m.cpu)/1e6, float64(m.p50)/1e6, float64(m.p99)/1e6, ratio)
	}
	b.out.Flush()
	return nil
}

func (b *bench) inbound() error {
	for _, l := range []load{
		{sessions: 1, messages: 1000, size: 4096, rcpts: 1},
		{sessions: 8, messages: 2000, size: 4096, rcpts: 1},
		{sessions: 32, messages: 2000, size: 4096, rcpts: 1},
		{sessions: 8, messages: 400, size: 4096, rcpts: 10},
		{sessions: 8, messages: 600, size: 100 << 10, rcpts: 1},
	} {
		l.messages = max(l.sessions, int(float64(l.messages)*b.factor))
		l.users, l.first = b.users, 1
		label := fmt.Sprintf("inbound %d KiB, %d sessions, %d rcpt", l.size>>10, l.sessions, l.rcpts)
		if !strings.Contains(label, b.match) {
			continue
		}
		if err := b.eachRound(label, "msg", func(t *target) (cell, error) { return b.inboundCell(t, l) }); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) inboundCell(t *target, l load) (cell, error) {
	w, err := watch(t, l.first, l.users)
	if err != nil {
		return cell{}, err
	}
	defer w.close()
	before, err := w.count()
	if err != nil {
		return cell{}, err
	}
	cpu, err := family(t.pids)
	if err != nil {
		return cell{}, err
	}
	b.serial++
	start := time.Now()
	answered, lat, err := inbound(t, l, fmt.Sprintf("%d-%d", start.UnixNano(), b.serial))
	if err != nil {
		return cell{}, err
	}
	looks, err := w.wait(before + l.messages*l.rcpts)
	if err != nil {
		return cell{}, err
	}
	took := time.Since(start)
	after, err := family(t.pids)
	if err != nil {
		return cell{}, err
	}
	look, err := w.price(t)
	if err != nil {
		return cell{}, err
	}
	used := after - cpu - time.Duration(looks)*look
	return cell{rate: float64(l.messages) / took.Seconds(), answered: float64(l.messages) / answered.Seconds(),
		cpu: used / time.Duration(l.messages), p50: lat[len(lat)/2], p99: lat[len(lat)*99/100]}, nil
}

func (b *bench) logins() error { return b.loginCells("logins", false) }

// remembered is logins with passwords that the targets have seen before.
func (b *bench) remembered() error { return b.loginCells("remembered logins", true) }

// loginCells measures logins, warm after one of each user.
func (b *bench) loginCells(what string, warm bool) error {
	for _, secure := range []bool{false, true} {
		label := what + " IMAP, 16 clients"
		if secure {
			label = what + " IMAPS, 16 clients"
		}
		err := b.eachRound(label, "login", func(t *target) (cell, error) {
			if warm {
				if err := loginEach(t, b.users); err != nil {
					return cell{}, err
				}
			}
			cpu, err := family(t.pids)
			if err != nil {
				return cell{}, err
			}
			const d = 3 * time.Second
			n, err := logins(t, secure, 16, b.users, d)
			if err != nil {
				return cell{}, err
			}
			after, err := family(t.pids)
			return cell{rate: float64(n) / d.Seconds(), cpu: (after - cpu) / time.Duration(max(n, 1))}, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) pop3() error {
	return b.eachRound("POP3 drain of 1,000 messages of 4 KiB", "msg", func(t *target) (cell, error) {
		if err := b.fill(t, b.users, 1000, 4096); err != nil {
			return cell{}, err
		}
		cpu, err := family(t.pids)
		if err != nil {
			return cell{}, err
		}
		start := time.Now()
		n, err := drain(t, b.users)
		if err != nil {
			return cell{}, err
		}
		took := time.Since(start)
		after, err := family(t.pids)
		return cell{rate: float64(n) / took.Seconds(), cpu: (after - cpu) / time.Duration(n)}, err
	})
}

// fill delivers until the INBOX of load user n holds at least want messages.
func (b *bench) fill(t *target, n, want, size int) error {
	w, err := watch(t, n, 1)
	if err != nil {
		return err
	}
	defer w.close()
	have, err := w.count()
	if err != nil {
		return err
	}
	if have >= want {
		return nil
	}
	b.serial++
	l := load{sessions: 16, messages: want - have, size: size, rcpts: 1, users: 1, first: n}
	if _, _, err := inbound(t, l, fmt.Sprintf("fill%d-%d", time.Now().UnixNano(), b.serial)); err != nil {
		return err
	}
	_, err = w.wait(want)
	return err
}

// settle is how long a target rests before its memory is taken as the base.
const settle = 45 * time.Second

func (b *bench) idles() error {
	for _, secure := range []bool{false, true} {
		for _, t := range b.targets {
			for n := 1; n <= min(b.users, 20); n++ {
				if err := b.fill(t, n, 20, 4096); err != nil {
					return err
				}
			}
			time.Sleep(settle) // what went before is not to be counted, nor to hide something
			before, err := pss(t.pids)
			if err != nil {
				return err
			}
			sessions, err := idle(t, secure, b.idle, min(b.users, 20))
			if err != nil {
				return err
			}
			time.Sleep(60 * time.Second)
			after, err := pss(t.pids)
			if err != nil {
				return err
			}
			for _, c := range sessions {
				c.conn.Close()
			}
			kind := "plain"
			if secure {
				kind = "TLS"
			}
			rise := after.minus(before)
			fmt.Fprintf(b.out, "%d idle sessions, %s\t%s\t%.1f KB each\tdatabase buffers +%.1f MiB\t\n", b.idle, kind, t.name,
				float64(rise.private)/float64(b.idle)/1000, mib(rise.shared))
			b.out.Flush()
		}
	}
	return nil
}

// grow compares a delivery into a large mailbox with one into a small one. Peers
// whose deliveries grow with the mailbox would take hours to fill it: they are
// left out, docs/benchmarks.md has their figures.
func (b *bench) grow() error {
	for _, t := range b.targets {
		if t.database == "" {
			continue
		}
		big, small := b.users-1, b.users-2
		if err := b.fill(t, big, b.grown, 512); err != nil {
			return err
		}
		var perBig, perSmall []time.Duration
		for range b.rounds {
			for _, n := range []int{small, big} {
				c, err := b.inboundCell(t, load{sessions: 1, messages: 500, size: 4096, rcpts: 1, users: 1, first: n})
				if err != nil {
					return err
				}
				if n == big {
					perBig = append(perBig, c.cpu)
				} else {
					perSmall = append(perSmall, c.cpu)
				}
			}
		}
		mb, ms := median(perBig), median(perSmall)
		fmt.Fprintf(b.out, "delivery into %d messages\t%s\t%.3f ms CPU\tinto few\t%.3f ms CPU\t%.2fx\t\n", b.grown, t.name, float64(mb)/1e6, float64(ms)/1e6, float64(mb)/float64(ms))
		b.out.Flush()
	}
	return nil
}
