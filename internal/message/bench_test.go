package message

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// typical is a mail of about 4 KiB as most are: twenty fields, plain text and
// HTML.
func typical() []byte {
	var b strings.Builder
	for i := range 4 {
		fmt.Fprintf(&b, "Received: from mx%d.example.net (mx%d.example.net [192.0.2.%d])\r\n\tby mail.corp.example with ESMTPS id 0123456789bcd\r\n\tfor <alice@corp.example>; Sat, 21 Nov 2026 10:00:0%d +0000\r\n", i, i, i, i)
	}
	b.WriteString("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=2026;\r\n\th=from:to:subject:date:message-id; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n\tb=" + strings.Repeat("QUFB", 60) + "\r\n")
	b.WriteString("From: Bob Jones <bob@example.net>\r\nTo: \"Alice Example\" <alice@corp.example>, wangwei@corp.example\r\nCc: Carol <carol@corp.example>\r\n" +
		"Subject: Re: [team] lunch at noon\r\nDate: Sat, 21 Nov 2026 09:59:58 +0000\r\nMessage-ID: <lunch.1@example.net>\r\n" +
		"In-Reply-To: <lunch.0@corp.example>\r\nReferences: <lunch.00@corp.example> <lunch.0@corp.example>\r\nUser-Agent: Mutt/2.2\r\nX-Mailer: none\r\nAccept-Language: en\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"----=_Part_123\"\r\n\r\n")
	b.WriteString("------=_Part_123\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	for range 14 {
		b.WriteString("Shall we have lunch at noon? The place at the corner has a table.\r\n")
	}
	b.WriteString("------=_Part_123\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	for range 15 {
		b.WriteString("<p>Shall we have lunch at noon? The place at the corner has a table.</p>\r\n")
	}
	b.WriteString("------=_Part_123--\r\n")
	return []byte(b.String())
}

// All the work of this package for one delivered message.
func BenchmarkDelivery(b *testing.B) {
	msg := typical()
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		s := NewScanner(Limits{})
		s.Write(msg)
		p := s.Close()
		p.Header.Envelope(nil)
		EncodeStructure(p.Root)
		IndexOf(p.Header)
	}
}

func BenchmarkScan(b *testing.B) {
	msg := typical()
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		s := NewScanner(Limits{})
		s.Write(msg)
		s.Close()
	}
}

func BenchmarkScanLarge(b *testing.B) {
	line := []byte(strings.Repeat("QUFB", 19) + "\r\n")
	chunk := bytes.Repeat(line, 256<<10/len(line))
	head := []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/zip\r\n\r\n")
	b.SetBytes(int64(len(chunk) * 40))
	b.ReportAllocs()
	for b.Loop() {
		s := NewScanner(Limits{})
		s.Write(head)
		for range 40 {
			s.Write(chunk)
		}
		s.Close()
	}
}

func BenchmarkEnvelope(b *testing.B) {
	s := NewScanner(Limits{})
	s.Write(typical())
	h := s.Close().Header
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		dst = h.Envelope(dst[:0])
	}
}

func BenchmarkIndexOf(b *testing.B) {
	s := NewScanner(Limits{})
	s.Write(typical())
	h := s.Close().Header
	b.ReportAllocs()
	for b.Loop() {
		IndexOf(h)
	}
}

func BenchmarkBodyStructure(b *testing.B) {
	s := NewScanner(Limits{})
	s.Write(typical())
	enc := EncodeStructure(s.Close().Root)
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		p, err := DecodeStructure(enc)
		if err != nil {
			b.Fatal(err)
		}
		dst = p.AppendBodyStructure(dst[:0], true)
	}
}
