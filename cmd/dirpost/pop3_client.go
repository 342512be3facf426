package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/textproto"
)

// pop3Client is as much of a POP3 client (RFC 1939) as the self-check needs.
type pop3Client struct {
	text *textproto.Conn
}

// newPOP3Client takes an open connection; TLS comes first or by STLS (RFC 2595
// §4).
func newPOP3Client(conn net.Conn, conf *tls.Config, implicit bool) (*pop3Client, error) {
	if implicit {
		conn = tls.Client(conn, conf)
	}
	c := &pop3Client{textproto.NewConn(conn)}
	if err := c.answer(); err != nil {
		return nil, err
	}
	if implicit {
		return c, nil
	}
	if err := c.command("STLS"); err != nil {
		return nil, err
	}
	c.text = textproto.NewConn(tls.Client(conn, conf))
	return c, nil
}

// command sends a command and reads the first line of its answer.
func (c *pop3Client) command(format string, args ...any) error {
	if err := c.text.PrintfLine(format, args...); err != nil {
		return err
	}
	return c.answer()
}

func (c *pop3Client) answer() error {
	line, err := c.text.ReadLine()
	if err != nil {
		return err
	}
	if len(line) < 3 || line[:3] != "+OK" {
		return fmt.Errorf("the server says %q", line)
	}
	return nil
}

func (c *pop3Client) login(user, password string) error {
	if err := c.command("USER %s", user); err != nil {
		return err
	}
	return c.command("PASS %s", password)
}

// count returns how many messages there are.
func (c *pop3Client) count() (int, error) {
	if err := c.text.PrintfLine("STAT"); err != nil {
		return 0, err
	}
	line, err := c.text.ReadLine()
	if err != nil {
		return 0, err
	}
	var n, size int
	if _, err := fmt.Sscanf(line, "+OK %d %d", &n, &size); err != nil {
		return 0, fmt.Errorf("the server says %q", line)
	}
	return n, nil
}

// retrieve returns message n with CRLF line ends. textproto's DotReader would
// turn them into LF.
func (c *pop3Client) retrieve(n int) ([]byte, error) {
	if err := c.command("RETR %d", n); err != nil {
		return nil, err
	}
	return readDotted(c.text.R)
}

// readDotted reads lines up to the one that is a dot, and takes the transparency
// dots out (RFC 1939 §3).
func readDotted(r *bufio.Reader) ([]byte, error) {
	var b bytes.Buffer
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		if bytes.Equal(line, []byte(".\r\n")) {
			return b.Bytes(), nil
		}
		b.Write(bytes.TrimPrefix(line, []byte(".")))
	}
}

func (c *pop3Client) quit() error { return c.command("QUIT") }
