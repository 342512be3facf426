package smtpd

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// message4K is a message of about 4 KiB in lines of 72 octets.
var message4K = "Subject: benchmark\r\nFrom: a@outside.example\r\nTo: alice@corp.example\r\n\r\n" +
	strings.Repeat(strings.Repeat("x", 70)+"\r\n", 56)

// peer is a client that costs next to nothing.
type peer struct {
	nc net.Conn
	r  *bufio.Reader
}

func dialPeer(b testing.TB, addr string) *peer {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	p := &peer{nc, bufio.NewReader(nc)}
	p.want(b, "220")
	p.send(b, "EHLO client.example\r\n", "250 ")
	return p
}

// send writes s and reads up to the reply line that begins with code.
func (p *peer) send(b testing.TB, s, code string) {
	if _, err := io.WriteString(p.nc, s); err != nil {
		b.Error(err)
		return
	}
	p.want(b, code)
}

func (p *peer) want(b testing.TB, code string) {
	for {
		line, err := p.r.ReadSlice('\n')
		if err != nil {
			b.Error(err)
			return
		}
		if bytes.HasPrefix(line, []byte(code)) {
			return
		}
		if line[3] != '-' {
			b.Errorf("got %q, want %s", line, code)
			return
		}
	}
}

// BenchmarkMessages takes 4 KiB messages from 20 sessions, one command a round
// trip as smtp-source does. cpu-us/op counts server and client together; go-smtp
// is measured in the same run.
func BenchmarkMessages(b *testing.B) {
	b.Run("dirpost", func(b *testing.B) {
		s := newServer(b, MX, func(c *Config, _ *Deps) { c.MaxMessages = 1 << 30 })
		s.door.discard, s.door.forget = true, true
		benchmarkMessages(b, s.listen(b))
	})
	b.Run("go-smtp", func(b *testing.B) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return nullSession{}, nil }))
		s.Domain, s.MaxRecipients, s.ReadTimeout, s.WriteTimeout = "mx.corp.example", 1000, time.Minute, time.Minute
		go s.Serve(ln)
		defer s.Close()
		benchmarkMessages(b, ln.Addr().String())
	})
}

// nullSession takes anything and keeps nothing.
type nullSession struct{}

func (nullSession) Reset()                               {}
func (nullSession) Logout() error                        { return nil }
func (nullSession) Mail(string, *smtp.MailOptions) error { return nil }
func (nullSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (nullSession) Data(r io.Reader) error               { _, err := io.Copy(io.Discard, r); return err }

func benchmarkMessages(b *testing.B, addr string) {
	peers := make([]*peer, 20)
	for i := range peers {
		peers[i] = dialPeer(b, addr)
		defer peers[i].nc.Close()
	}
	body := message4K + ".\r\n"
	b.SetBytes(int64(len(message4K)))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	var wg sync.WaitGroup
	work := make(chan struct{}, 1024)
	for _, p := range peers {
		wg.Go(func() {
			for range work {
				p.send(b, "MAIL FROM:<a@outside.example>\r\n", "250")
				p.send(b, "RCPT TO:<alice@corp.example>\r\n", "250")
				p.send(b, "DATA\r\n", "354")
				p.send(b, body, "250")
			}
		})
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-us/op")
}

// BenchmarkLarge takes messages of 10 MiB.
func BenchmarkLarge(b *testing.B) {
	s := newServer(b, MX, nil)
	s.door.discard = true
	p := dialPeer(b, s.listen(b))
	defer p.nc.Close()
	body := []byte(strings.Repeat(strings.Repeat("x", 74)+"\r\n", 10<<20/76))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		p.send(b, "MAIL FROM:<a@outside.example>\r\n", "250")
		p.send(b, "RCPT TO:<alice@corp.example>\r\n", "250")
		p.send(b, "DATA\r\n", "354")
		p.nc.Write(body)
		p.send(b, ".\r\n", "250")
	}
}

// cpu is the CPU time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
