package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// sevenBit converts a message; body comes in pieces of size.
func sevenBit(msg string, size int) (string, *Parsed, error) {
	s := NewScanner(Limits{})
	body := append([]byte(nil), s.Scan([]byte(msg))...)
	parsed := s.Close()
	read := func(w io.Writer) error {
		for rest := body; len(rest) > 0; {
			n := min(size, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	}
	plan, err := PlanSevenBit(parsed.Header, read)
	if err != nil {
		return "", parsed, err
	}
	out := bytes.NewBuffer(bytes.Clone(plan.Header.Bytes()))
	w := plan.Writer(out)
	if err := errors.Join(read(w), w.Close()); err != nil {
		return "", parsed, err
	}
	return out.String(), parsed, nil
}

func TestSevenBit(t *testing.T) {
	t.Parallel()
	const mixed = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n"
	long := strings.Repeat("x", 999)
	tests := []struct{ name, in, want string }{
		{"text", "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße = \t\nplain text, and more of it, so that there is little to encode\n--b\n.\n",
			"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=C3=9Fe =3D =09\nplain text, and more of it, so that there is little to encode\n=2D-b\n=2E\n"},
		{"text that is mostly 8-bit", "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n会议\n",
			"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n5Lya6K6uDQo=\n"},
		{"RFC 1428 §3: no MIME at all", "Subject: x\n\nGr\xfc\xdfe from the year nineteen ninety\n",
			"Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe from the year nineteen ninety\n"},
		{"a type without a version", "Content-Type: text/html\n\n<p>Gr\xfc\xdfe from the year nineteen ninety\n",
			"Content-Type: text/html\nMIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n<p>Gr=FC=DFe from the year nineteen ninety\n"},
		{"parts", mixed + "preamble ü\n--b\nContent-Type: text/plain; charset=utf-8\ncontent-transfer-encoding: 8BIT\n\nGrüße from here to you all\n--b\n\nplain\n--b\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: binary\n\nä\n--b\nContent-Transfer-Encoding: 8bit\n\nplain\n--b--\nepilogue\n",
			strings.Replace(mixed, "8bit", "7bit", 1) + "preamble **\n--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=C3=9Fe from here to you all\n--b\n\nplain\n--b\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\nw6Q=\n--b\nContent-Transfer-Encoding: 7bit\n\nplain\n--b--\nepilogue\n"},
		{"a message within", mixed + "--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: y\n\nGrüße from far away and long ago\n--b--\n",
			strings.Replace(mixed, "8bit", "7bit", 1) + "--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\nSubject: y\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\nContent-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=C3=9Fe from far away and long ago\n--b--\n"},
		{"a soft line break makes no delimiter", mixed + "--b\nContent-Type: text/plain\n\nü" + strings.Repeat("x", 69) + "--b--\n--b--\n",
			strings.Replace(mixed, "8bit", "7bit", 1) + "--b\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC" + strings.Repeat("x", 69) + "=\n=2D-b--\n--b--\n"},
		{"a long line", mixed + "--b\n\n" + long + "\n--b--\n",
			strings.Replace(mixed, "8bit", "7bit", 1) + "--b\nContent-Transfer-Encoding: quoted-printable\n\n" + strings.Repeat(long[:75]+"=\n", 13) + long[:24] + "\n--b--\n"},
		{"8-bit content that is said to be encoded", "MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC\xdfe =\nx\n",
			"MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\nR3L832UgeA0K\n"},
		{"signed and 7-bit beside 8-bit", mixed + "--b\nContent-Type: multipart/signed; boundary=s\n\n--s\nContent-Transfer-Encoding: 8bit\n\nplain\n--s--\n--b\nContent-Type: image/x\n\nü\n--b--\n",
			strings.Replace(mixed, "8bit", "7bit", 1) + "--b\nContent-Type: multipart/signed; boundary=s\n\n--s\nContent-Transfer-Encoding: 8bit\n\nplain\n--s--\n--b\nContent-Type: image/x\nContent-Transfer-Encoding: base64\n\nw7w=\n--b--\n"},
	}
	for _, tt := range tests {
		in, want := strings.ReplaceAll(tt.in, "\n", "\r\n"), strings.ReplaceAll(tt.want, "\n", "\r\n")
		for _, size := range []int{1, 7, 1 << 20} {
			if got, _, err := sevenBit(in, size); err != nil || got != want {
				t.Errorf("%s, by %d: %v\n got %q\nwant %q", tt.name, size, err, got, want)
			}
		}
	}
}

// What cannot be converted is refused as a whole.
func TestSevenBitRefused(t *testing.T) {
	t.Parallel()
	const mixed = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
	for name, in := range map[string]string{
		"signed":                 "MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=s\n\n--s\nContent-Transfer-Encoding: 8bit\n\nü\n--s\nContent-Type: application/pgp-signature\n\nx\n--s--\n",
		"signed within":          mixed + "--b\nContent-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: multipart/mixed; boundary=t\n\n--t\n\nü\n--t--\n--s--\n--b--\n",
		"text around signed":     mixed + "--b\nContent-Type: multipart/signed; boundary=s\n\nü\n--s\n\nx\n--s--\n--b--\n",
		"header of the message":  "Subject: ü\n\nü\n",
		"header of a part":       mixed + "--b\nContent-Disposition: attachment; filename=ü\n\nx\n--b--\n",
		"header within":          mixed + "--b\nContent-Type: message/rfc822\n\nSubject: ü\n\nx\n--b--\n",
		"unknown encoding":       "MIME-Version: 1.0\nContent-Transfer-Encoding: x-uue\n\nü\n",
		"a report":               mixed + "--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; ü\n--b--\n",
		"multipart without name": "MIME-Version: 1.0\nContent-Type: multipart/mixed\n\nü\n",
		"too deep":               strings.Repeat("Content-Type: message/rfc822\n\n", 101) + "\nü\n",
	} {
		if got, _, err := sevenBit(strings.ReplaceAll(in, "\n", "\r\n"), 1<<20); !errors.Is(err, ErrSevenBit) {
			t.Errorf("%s: %v, converted to %q", name, err, got)
		}
	}
}

// tree writes the types of parts and their decoded content.
func tree(p *Part, body []byte) string {
	var b strings.Builder
	p.All(func(p *Part) bool {
		fmt.Fprintf(&b, "%s/%s %d children, embedded %v", p.Type, p.Subtype, len(p.Children), p.Embedded != nil)
		if p.Type != "multipart" && p.Embedded == nil {
			content, err := io.ReadAll(p.Decoded(bytes.NewReader(body)))
			fmt.Fprintf(&b, ": %q %v", content, err)
		}
		b.WriteByte('\n')
		return true
	})
	return b.String()
}

// FuzzSevenBit: what is converted holds 7-bit octets only and no line that is too
// long, has the same parts, and each decodes to the same octets.
func FuzzSevenBit(f *testing.F) {
	for _, s := range []string{
		"Subject: x\r\n\r\n\xfc\r\n",
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\xff--b\r\n\r\n\xfc-b \r\n--b\r\nContent-Type: message/rfc822\r\n\r\n\r\n=\xfc\r\n--b--\r\n\xfc",
		"Content-Type: multipart/signed; boundary=\"s*\"\r\n\r\n--s*\r\n\r\nx\r\n--s*--\r\n",
		"Content-Transfer-Encoding: base64\r\n\r\nR3L8\xff32Ug\r\n",
		"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=\xff4=C3 =\r\n--b\r\n",
		"Content-Type: multipart/digest; boundary=\"\"\r\n\r\n--\r\n\r\n\xe9",
	} {
		f.Add([]byte(s), uint16(3))
		f.Add([]byte(s), uint16(1000))
	}
	f.Fuzz(func(t *testing.T, msg []byte, size uint16) {
		// The doors let in CRLF line ends only, and a line end behind the last line.
		text := strings.NewReplacer("\r\n", "\r\n", "\r", "", "\n", "\r\n").Replace(string(msg))
		if !strings.HasSuffix(text, "\r\n") {
			text += "\r\n"
		}
		out, parsed, err := sevenBit(text, max(1, int(size)))
		if err != nil {
			if !errors.Is(err, ErrSevenBit) {
				t.Fatal(err)
			}
			return
		}
		again, body := scan([]byte(out), Limits{}, whole)
		if again.Defects&(Defect8Bit|Defect8BitHeader|DefectBareCR|DefectBareLF) != 0 {
			t.Fatalf("defects %v in %q of %q", again.Defects, out, text)
		}
		if parsed.Defects&DefectLongLine == 0 && again.Defects&DefectLongLine != 0 {
			t.Fatalf("a line of more than 998 octets in %q of %q", out, text)
		}
		before := text[parsed.HeaderSize:]
		if got, want := tree(again.Root, body), tree(parsed.Root, []byte(before)); got != want {
			t.Fatalf("parts\n%s\nbecame\n%s\nin %q of %q", want, got, out, text)
		}
	})
}

// A large message is converted in pieces: memory does not grow with it.
func TestSevenBitStreams(t *testing.T) {
	piece := []byte(strings.Repeat("Grüße aus einem Haus, in dem es acht Bits gibt.\r\n", 600))
	const pieces = 1200 // 36 MB
	read := func(w io.Writer) error {
		for range pieces {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	}
	for _, typ := range []string{"text/plain; charset=utf-8", "application/octet-stream"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		plan, err := PlanSevenBit(ParseHeader([]byte("MIME-Version: 1.0\r\nContent-Type: "+typ+"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")), read)
		if err != nil {
			t.Fatal(err)
		}
		w := plan.Writer(io.Discard)
		if err := errors.Join(read(w), w.Close()); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("%s of %d octets allocated %d octets", typ, pieces*len(piece), n)
		}
	}
}
