package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sink takes all mail and counts it: the outside.
type sink struct {
	listener net.Listener
	messages atomic.Int64
}

func newSink(addr string) (*sink, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	s := &sink{listener: l}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s, nil
}

// serve is as much of an SMTP server as a sender needs.
func (s *sink) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	w := bufio.NewWriter(conn)
	text := textproto.NewReader(r)
	w.WriteString("220 sink\r\n")
	for {
		if r.Buffered() == 0 {
			w.Flush()
		}
		line, err := text.ReadLineBytes()
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(string(line)), " ")
		switch verb {
		case "EHLO":
			w.WriteString("250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 0\r\n")
		case "DATA":
			w.WriteString("354 go on\r\n")
			w.Flush()
			for {
				line, err := text.ReadLineBytes()
				if err != nil {
					return
				}
				if len(line) == 1 && line[0] == '.' {
					break
				}
			}
			s.messages.Add(1)
			w.WriteString("250 2.0.0 ok\r\n")
		case "QUIT":
			w.WriteString("221 2.0.0 bye\r\n")
			w.Flush()
			return
		default:
			w.WriteString("250 2.0.0 ok\r\n")
		}
	}
}

// relay submits messages to people outside and waits until the sink has them.
func (b *bench) relay() error {
	if b.sink == "" {
		return nil
	}
	s, err := newSink(b.sink)
	if err != nil {
		return err
	}
	defer s.listener.Close()
	n := max(8, int(1500*b.factor))
	return b.eachRound("relay to a sink, 4 KiB, 8 sessions", "msg", func(t *target) (cell, error) {
		cpu, err := family(t.pids)
		if err != nil {
			return cell{}, err
		}
		begin, before := time.Now(), s.messages.Load()
		if err := submit(t, 8, n); err != nil {
			return cell{}, err
		}
		for deadline := begin.Add(2 * time.Minute); s.messages.Load() < before+int64(n); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				return cell{}, fmt.Errorf("%d of %d messages came out", s.messages.Load()-before, n)
			}
		}
		took := time.Since(begin)
		after, err := family(t.pids)
		return cell{rate: float64(n) / took.Seconds(), cpu: (after - cpu) / time.Duration(n)}, err
	})
}

// submit sends n messages of 4 KiB to people outside, as one of the load users
// where the target asks who it is.
func submit(t *target, sessions, n int) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, sessions)
	run := fmt.Sprint(time.Now().UnixNano())
	for range sessions {
		wg.Go(func() {
			if err := submitSession(t, run, &next, n); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func submitSession(t *target, run string, next *atomic.Int64, n int) error {
	s, err := newSubmission(t)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	for {
		i := int(next.Add(1)) - 1
		if i >= n {
			_, err := s.say(221, "QUIT")
			return err
		}
		if err := s.send(fmt.Sprintf("u%d@outside.example", i), run, i); err != nil {
			return err
		}
	}
}

// submission is a connection of a load user who sends mail.
type submission struct {
	target *target
	conn   net.Conn
	text   *textproto.Conn
}

func newSubmission(t *target) (*submission, error) {
	conn, err := net.DialTimeout("tcp", t.submission, 10*time.Second)
	if err != nil {
		return nil, err
	}
	s := &submission{t, conn, textproto.NewConn(conn)}
	_, _, err = s.text.ReadResponse(220)
	offers := ""
	if err == nil {
		offers, err = s.say(250, "EHLO load.example.net")
	}
	if err == nil && strings.Contains(offers, "AUTH") {
		who := base64.StdEncoding.EncodeToString([]byte("\x00" + t.user(1) + "\x00" + t.password))
		_, err = s.say(235, "AUTH PLAIN "+who)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *submission) say(code int, line string) (string, error) {
	if err := s.text.PrintfLine("%s", line); err != nil {
		return "", err
	}
	_, answer, err := s.text.ReadResponse(code)
	return answer, err
}

// send sends message i of a run to one recipient.
func (s *submission) send(to, run string, i int) error {
	from := s.target.user(1)
	m := bytes.Replace(text(s.target.domain, run, i, 4096), []byte("load@example.net"), []byte(from), 1)
	if _, err := s.say(250, "MAIL FROM:<"+from+">"); err != nil {
		return err
	}
	if _, err := s.say(250, "RCPT TO:<"+to+">"); err != nil {
		return err
	}
	if _, err := s.say(354, "DATA"); err != nil {
		return err
	}
	if _, err := s.text.W.Write(m); err != nil {
		return err
	}
	_, err := s.say(250, ".")
	return err
}
