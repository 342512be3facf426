package dialog

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// serve is a small server: it greets, answers each line with its text, and knows
// a few verbs.
func serve(conn net.Conn, config *tls.Config) {
	defer func() { conn.Close() }()
	io.WriteString(conn, "+OK <17.42@here> ready\r\n")
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch line = strings.TrimRight(line, "\r\n"); {
		case line == "QUIT":
			io.WriteString(conn, "+OK bye\r\n")
			return
		case line == "LIST":
			io.WriteString(conn, "+OK\r\n1 100\r\n2 200\r\n.\r\n")
		case line == "BARE":
			io.WriteString(conn, "bare\n")
		case line == "OCTETS":
			io.WriteString(conn, "a\x00\xff\r\nb+OK\r\n")
		case line == "STLS":
			io.WriteString(conn, "+OK go\r\n")
			conn = tls.Server(conn, config)
			r = bufio.NewReader(conn)
		default:
			fmt.Fprintf(conn, "+OK %d %s\r\n", len(line), line)
		}
	}
}

func runner(t *testing.T) *Runner {
	server, pool := certificate(t)
	return &Runner{
		TLS: &tls.Config{RootCAs: pool, ServerName: "here"},
		Dial: func(int) (net.Conn, error) {
			c, s := net.Pipe()
			go serve(s, server)
			return c, nil
		},
		Given: func(text string) error {
			if text != "nothing" {
				return errors.New("not to be had")
			}
			return nil
		},
	}
}

func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"here"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

func TestPlayed(t *testing.T) {
	for name, script := range map[string]string{
		"greeting":        "S: +OK * ready\nC: QUIT\nS: +OK bye\neof",
		"given":           "given nothing\nS: +OK *",
		"pipelined":       "C: a\nC: LIST\nC: QUIT\nS: *\nS: +OK 1 a\nS: +OK\nS: 1 100\nS: 2 200\nS: .\nS: +OK bye\neof",
		"any lines":       "S: *\nC: LIST\nS: *...\nS: .\nC: x\nS: +OK 1 x",
		"no lines":        "S: *...\nS: +OK * ready",
		"capture":         "S: +OK <{stamp}> ready\nC: {stamp}\nS: +OK * {stamp}",
		"capture twice":   "S: +OK <{a}.{b}@here> *\nC: {b}.{a}\nS: +OK 5 42.17",
		"literal braces":  `S: *` + "\n" + `C: {342} {5+} \{x} \Seen a\\b` + "\n" + `S: +OK * {342} {5+} {rest}`,
		"escapes":         `S: *` + "\n" + `C: a\tb\x41` + "\n" + `S: +OK 4 a\tb\x41`,
		"base64":          "S: *\nC: {base64:\\0a\\0b}\nS: +OK 8 AGEAYg==",
		"no line end":     "S: *\nC- ab\nC- c\nC: \nS: +OK 3 abc",
		"raw line end":    "S: *\nC- a\\r\\nb\\r\\n\nS: +OK 1 a\nS: +OK 1 b",
		"many octets":     "S: *\nC* 70001 ab\nC: \nS: +OK 70001 abab*ba",
		"bare lf":         "S: *\nC: BARE\nS: bare\\n",
		"server octets":   "S: *\nC: OCTETS\nS* 6\nS: +OK",
		"octets as such":  "S: *\nC: OCTETS\nS: a\\0\\xff\nS: b+OK",
		"two clients":     "S1: *\nS2: *\nC1: one\nC2: two\nS2: +OK * two\nS1: +OK * one\nclose C1\nC2: QUIT\nS2: +OK bye\neof S2",
		"tls":             "S: *\nC: STLS\nS: +OK go\nstarttls\nC: secret\nS: +OK 6 secret\nC: QUIT\nS: *\neof",
		"comment between": "S: *\n# why\n\nC: x\nS: +OK 1 x",
		"escaped star":    "S: *\nC: *\nS: +OK 1 \\*",
		"eof after close": "S: *\nclose\neof",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := runner(t).play("x.dialog", "# RFC 1939 §3\n"+script); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"no citation":     {"S: *", "x.dialog:1: the first line"},
		"other line":      {"# r\nS: *\nC: a\nS: +OK 1 b", "x.dialog:4: \nwanted S: +OK 1 b\ngot    S: +OK 1 a\nso far:\n  S: +OK <17.42@here> ready\n  C: a\n  S: +OK 1 a\n"},
		"never":           {"# r\nS: *\nS: more", "wanted S: more\ngot    (nothing came in time)"},
		"gone":            {"# r\nS: *\nC: QUIT\nS: *\nS: more", "wanted S: more\ngot    (EOF)"},
		"value differs":   {"# r\nS: +OK <{a}> ready\nC: 18\nS: +OK 2 {a}", "x.dialog:4: \nwanted S: +OK 2 {a}"},
		"no value":        {"# r\nC: {a}", "x.dialog:2: {a} has no value"},
		"not an escape":   {"# r\nS: *\nC: x\nS: +OK 1 \\y", `wanted S: +OK 1 \y`},
		"not a step":      {"# r\nX: *", "x.dialog:2: not a step"},
		"open end":        {"# r\nS: *...", "x.dialog:2: S: *... is ended by no"},
		"open middle":     {"# r\nS: *...\nC: x", "x.dialog:3: after S: *..."},
		"still there":     {"# r\nS: *\neof", "wanted the end of the connection: nothing came in time"},
		"more before end": {"# r\nC: QUIT\nS: *\neof", `instead of the end came "+OK bye\r\n"`},
		"given":           {"# r\ngiven the moon", "x.dialog:2: given the moon: not to be had"},
		"do":              {"# r\ndo it", `nobody here understands "do it"`},
		"unasked":         {"# r\nC: LIST\nS: *\nS: *\nS: x", "(not asked for yet) 2 200"},
		"before tls":      {"# r\nS: *\nC: a\nC: STLS\nS: +OK 1 a\nstarttls", "x.dialog:6: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				err := runner(t).play("x.dialog", c.script)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s\ngot  %v\nwant %s", c.script, err, c.want)
				}
			})
		})
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	c, s := net.Pipe()
	go serve(s, nil)
	Run(t, "testdata/quit.dialog", c)
}

func TestExpect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := net.Pipe()
		defer c.Close()
		go func() {
			time.Sleep(30 * time.Minute)
			io.WriteString(s, "* BYE autologout\r\nrest")
			s.Close()
		}()
		Expect(t, c, "* BYE *")
		if rest, err := io.ReadAll(c); err != nil || string(rest) != "rest" {
			t.Errorf("behind the line: %q, %v", rest, err)
		}
	})
}
