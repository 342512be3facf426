package message

import (
	"bytes"
	"strings"
	"testing"

	"dirpost/internal/envelope"
)

func TestCompose(t *testing.T) {
	t.Parallel()
	var h Header
	for _, f := range [][2]string{
		{"From", FormatAddress("Mail Delivery", envelope.Address{Local: "mailer-daemon", Domain: "corp.example"})},
		{"To", FormatAddress("王伟", envelope.Address{Local: "wangwei", Domain: "corp.example"})},
		{"Subject", EncodeHeader("会议 report")},
	} {
		if err := h.Append(f[0], f[1]); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	err := Compose(&b, Composition{
		Header: h, Type: "multipart/report", Params: []Param{{"report-type", "delivery-status"}}, Boundary: "=_1",
		Pieces: []Piece{
			TextPiece("Grüße\nplain\n"),
			{Type: "message/rfc822", Description: "The message", Encoding: "8bit", Body: strings.NewReader("Subject: x\r\n\r\nGrüße\r\n")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(`From: Mail Delivery <mailer-daemon@corp.example>
To: =?utf-8?b?546L5Lyf?= <wangwei@corp.example>
Subject: =?utf-8?q?=E4=BC=9A=E8=AE=AE_report?=
MIME-Version: 1.0
Content-Type: multipart/report; boundary="=_1"; report-type=delivery-status

--=_1
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe
plain

--=_1
Content-Type: message/rfc822
Content-Description: The message
Content-Transfer-Encoding: 8bit

Subject: x

Grüße

--=_1--
`, "\n", "\r\n")
	if b.String() != want {
		t.Errorf("composed:\n%q\nwant:\n%q", b.String(), want)
	}
	p, _ := scan(b.Bytes(), Limits{}, whole)
	if p.Defects&^Defect8Bit != 0 || len(p.Root.Children) != 2 || p.Root.Children[1].Embedded == nil {
		t.Errorf("reads as %v, %s", p.Defects, p.Root.AppendBodyStructure(nil, false))
	}
}

func TestComposeSinglePart(t *testing.T) {
	t.Parallel()
	var h Header
	if err := h.Append("Subject", "a"); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Compose(&b, Composition{Header: h, Pieces: []Piece{TextPiece("text\n")}}); err != nil {
		t.Fatal(err)
	}
	want := "Subject: a\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\ntext\r\n"
	if b.String() != want {
		t.Errorf("composed %q, want %q", b.String(), want)
	}
	if err := Compose(&b, Composition{Header: h}); err == nil {
		t.Error("composed a message of nothing")
	}
	bad := Composition{Header: h, Pieces: []Piece{{Type: "text/plain\r\nX: y", Body: strings.NewReader("")}}}
	if err := Compose(&b, bad); err == nil {
		t.Error("a content type could start a field")
	}
}

func TestFormatAddress(t *testing.T) {
	t.Parallel()
	a := envelope.Address{Local: "a b", Domain: "corp.example"}
	for _, tt := range []struct{ name, want string }{
		{"", `"a b"@corp.example`},
		{"Alice", `Alice <"a b"@corp.example>`},
		{`Example, "A"`, `"Example, \"A\"" <"a b"@corp.example>`},
		{"Älice\r\nBcc: x", `=?utf-8?q?=C3=84lice__Bcc:_x?= <"a b"@corp.example>`},
	} {
		got := FormatAddress(tt.name, a)
		if got != tt.want {
			t.Errorf("FormatAddress(%q) = %s, want %s", tt.name, got, tt.want)
		}
		for m := range ParseMailboxes(got) {
			if addr, err := m.Address(); err != nil || addr != a {
				t.Errorf("%s reads as %v, %v", got, addr, err)
			}
		}
	}
}
