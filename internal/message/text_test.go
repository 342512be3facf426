package message

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func TestTextReader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, typ, encoding, in, want string }{
		{"plain", "text/plain", "7bit", "hello", "hello"},
		{"latin1", "text/plain; charset=iso-8859-1", "8bit", "Gr\xfc\xdfe \x80", "Grüße €"},
		{"utf-8 unlabelled", "text/plain", "8bit", "Grüße", "Grüße"},
		{"latin1 unlabelled", "text/plain", "8bit", "Gr\xfc\xdfe", "Grüße"},
		{"gbk unlabelled", "text/plain", "8bit", "hi \xbb\xe1\xd2\xe9", "hi 会议"},
		{"utf-8 with broken octets", "text/plain; charset=utf-8", "8bit", "a\xff", "a\uFFFD"},
		{"gb18030 of four octets", "text/plain; charset=gb2312", "8bit", "\x81\x30\x84\x36", "¥"},
		{"utf-16", "text/plain; charset=utf-16", "base64", "//5oAGkA", "hi"},
		{"utf-7", "text/plain; charset=utf-7", "7bit", "Hi Mom -+Jjo--!", "Hi Mom -☺-!"},
		{"utf-7 surrogates", "text/plain; charset=utf-7", "7bit", "+2D3eAA-", "😀"},
		{"base64 in lines", "text/plain", "base64", "aGVs\r\nbG8=\r\n", "hello"},
		{"base64 with junk", "text/plain", "base64", "aG!Vs bG8", "hello"},
		{"base64 joined", "text/plain", "base64", "aGk=aGk=", "hihi"},
		{"qp", "text/plain; charset=utf-8", "quoted-printable", "Gr=C3=BC=c3=9Fe=\r\n!", "Grüße!"},
		{"qp soft break with space", "text/plain", "quoted-printable", "a= \t\r\nb", "ab"},
		{"qp broken", "text/plain", "quoted-printable", "a=b =zz =\n= c=", "a=b =zz = c"},
		{"unknown encoding", "text/plain", "x-uuencode", "begin", "begin"},
		{"html", "text/html", "7bit", "<p>a<b>b</b> c &amp; d<br>e</p><style>x{}</style><script>if(a<b)</script>f", "\nab c & d\ne\n\n\nf"},
		{"html charset", "text/html; charset=gb2312", "8bit", "<i>\xbb\xe1</i>\xd2\xe9", "会议"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := Part{BodySize: int64(len(tt.in)), Encoding: tt.encoding}
			p.contentType([]byte(tt.typ))
			for _, r := range []io.Reader{
				p.TextReader(strings.NewReader(tt.in)),
				iotest.OneByteReader(p.TextReader(strings.NewReader(tt.in))),
			} {
				got, err := io.ReadAll(r)
				if err != nil || string(got) != tt.want {
					t.Errorf("text of %q = %q, %v, want %q", tt.in, got, err, tt.want)
				}
			}
		})
	}
}

// Long texts pass through with the same result as short ones.
func TestTextReaderLong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ typ, encoding, in, want string }{
		{"text/plain", "8bit", strings.Repeat("会议 ", 50_000), strings.Repeat("会议 ", 50_000)},
		{"text/plain", "8bit", strings.Repeat("a", 20_001) + "\xfc", strings.Repeat("a", 20_001) + "ü"},
		{"text/plain; charset=gbk", "8bit", "a" + strings.Repeat("\xbb\xe1", 50_000), "a" + strings.Repeat("会", 50_000)},
		{"text/plain", "quoted-printable", strings.Repeat("=61=\r\n", 50_000), strings.Repeat("a", 50_000)},
		{"text/plain", "quoted-printable", "=" + strings.Repeat(" ", 50_000), "=" + strings.Repeat(" ", 50_000)},
		{"text/plain", "base64", strings.Repeat("YWFh\r\n", 50_000), strings.Repeat("aaa", 50_000)},
	} {
		p := Part{BodySize: int64(len(tt.in)), Encoding: tt.encoding}
		p.contentType([]byte(tt.typ))
		got, err := io.ReadAll(p.TextReader(strings.NewReader(tt.in)))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s in %s: %d octets, %v, want %d", tt.typ, tt.encoding, len(got), err, len(tt.want))
		}
	}
}

func TestWriteTextStops(t *testing.T) {
	t.Parallel()
	in := strings.Repeat("<p>hello", 10_000)
	p := Part{Type: "text", Subtype: "html", Encoding: "7bit", BodySize: int64(len(in))}
	var b bytes.Buffer
	if err := WriteText(&b, &p, strings.NewReader(in), 100); err != nil || b.Len() != 100 {
		t.Errorf("WriteText wrote %d octets: %v", b.Len(), err)
	}
	fail := errors.New("disk")
	if err := WriteText(&b, &p, failingReader{fail}, 100); !errors.Is(err, fail) {
		t.Errorf("WriteText over a broken body: %v, want %v", err, fail)
	}
}

type failingReader struct{ err error }

func (f failingReader) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func FuzzText(f *testing.F) {
	for _, msg := range emlFiles(f) {
		f.Add(msg)
	}
	f.Add([]byte("Content-Type: text/html; charset=utf-7\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+K1plVm5MSXFlLTwvYj4="))
	f.Add([]byte("Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$BF|K\\\x1b(B"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		p, body := scan(msg, Limits{MaxDepth: 10, MaxParts: 100}, whole)
		var b bytes.Buffer
		if err := WriteText(&b, p.Root, bytes.NewReader(body), 100_000); err != nil {
			t.Fatal(err)
		}
		if b.Len() < 100_000 && !utf8.Valid(b.Bytes()) {
			t.Fatalf("text %q", b.Bytes())
		}
		if b.Len() > 100_000 {
			t.Fatalf("%d octets", b.Len())
		}
	})
}
