package message

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDecodeHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "hello", "hello"},
		{"Q", "=?iso-8859-1?Q?Keld_J=F8rn_Simonsen?=", "Keld Jørn Simonsen"},
		{"B", "=?utf-8?B?5Lya6K6u?=", "会议"},
		{"B without padding", "=?utf-8?B?5Lya6K4?=", "会\uFFFD"},
		{"space between words goes", "=?utf-8?Q?a?= =?utf-8?Q?b?=", "ab"},
		{"space around words stays", "a =?utf-8?Q?b?= c", "a b c"},
		{"character cut in two", "=?utf-8?B?5Lya6A==?= =?utf-8?B?rq4=?=", "会议"},
		{"two charsets", "=?iso-8859-1?Q?=E4?= =?utf-8?Q?=C3=BC?=", "äü"},
		{"language", "=?us-ascii*en?Q?hi?=", "hi"},
		{"gb2312 is gb18030", "=?gb2312?B?1tC5+g==?=", "中国"},
		{"gb18030", "=?gb18030?Q?=D6=D0?=", "中"},
		{"big5", "=?big5?B?pKSw6g==?=", "中國"},
		{"iso-2022-jp", "=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"},
		{"shift_jis", "=?Shift_JIS?B?k/qWew==?=", "日本"},
		{"euc-kr", "=?ks_c_5601-1987?B?x9G6+w==?=", "한빛"},
		{"koi8-r", "=?koi8-r?B?0NLJ18XU?=", "привет"},
		{"windows-1251", "=?windows-1251?B?7/Do4uXy?=", "привет"},
		{"utf-7", "=?utf-7?Q?a+ZeVnLIqe-b+-c?=", "a日本語b+c"},
		{"unknown charset", "=?x-what?Q?abc?=", "abc"},
		{"spaces within", "=?utf-8?Q?a b?=", "a b"},
		{"no end", "=?utf-8?Q?abc", "=?utf-8?Q?abc"},
		{"unknown encoding", "=?utf-8?X?abc?=", "=?utf-8?X?abc?="},
		{"raw utf-8", "Grüße", "Grüße"},
		{"raw latin1", "Gr\xfc\xdfe", "Grüße"},
		{"raw gbk", "\xbb\xe1\xd2\xe9", "会议"},
		{"in quotes", `"=?utf-8?Q?=C3=BC?="`, `"ü"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := DecodeHeader(tt.in); got != tt.want {
				t.Errorf("DecodeHeader(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func FuzzDecodeHeader(f *testing.F) {
	for _, s := range []string{"=?utf-8?B?5Lya6A==?= =?utf-8?B?rq4=?=", "=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "=?utf-7?Q?+ZeVnLIqe-?=", "=?hz?Q?~{<:Ky2;~}?=", "Gr\xfc\xdfe =?", "=?utf-16?B?//5h?="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := DecodeHeader(s)
		if !utf8.ValidString(got) {
			t.Fatalf("DecodeHeader(%q) = %q", s, got)
		}
		n := Normalize(got)
		if !utf8.ValidString(n) || strings.ContainsAny(n, "\x00\x01\r\n") || strings.TrimSpace(n) != n || strings.Contains(n, "  ") {
			t.Fatalf("Normalize(%q) = %q", got, n)
		}
		BaseSubject(n)
	})
}

// What EncodeHeader writes reads back, and is ASCII in lines that can be folded.
func FuzzEncodeHeader(f *testing.F) {
	f.Add("会议 tomorrow"+strings.Repeat(" 明天", 40), "Example, Älice")
	f.Fuzz(func(t *testing.T, text, name string) {
		clean := strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, strings.ToValidUTF8(text, "\uFFFD"))
		got := EncodeHeader(text)
		if !isASCIIString(got) || DecodeHeader(got) != clean {
			t.Fatalf("EncodeHeader(%q) = %q, reads %q", text, got, DecodeHeader(got))
		}
		if _, err := FormatField("Subject", got); err != nil {
			t.Fatal(err)
		}
	})
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"hello world", "hello world"},
		{" Hello \r\n\t World ", "hello world"},
		{"ＦＵＬＬ　ｗｉｄｔｈ", "full width"},
		{"ﬁne", "fine"},
		{"STRASSE straße", "strasse strasse"},
		{"ΣΟΦΟΣ σοφος σοφός", "σοφοσ σοφοσ σοφόσ"},
		{"e\u0301", "é"},
		{"soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"},
		{"a\x00b\x01c", "a b c"},
		{"bad \xff utf", "bad \uFFFD utf"},
		{"会", "ꀧꌚ"},
	} {
		if got := Normalize(tt.in); got != tt.want {
			t.Errorf("Normalize(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
	text, key := Normalize("明天的会议在三楼"), Normalize("会议")
	if !strings.Contains(text, key) || strings.Contains(text, Normalize("议会")) {
		t.Errorf("%q in %q", key, text)
	}
}

func TestBaseSubject(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in, want string
		reply    bool
	}{
		{"lunch", "lunch", false},
		{"Re: lunch", "lunch", true},
		{"RE : Fwd: re: lunch", "lunch", true},
		{"Re[2]: lunch", "lunch", true},
		{"[team] Re: lunch", "lunch", true},
		{"[team] lunch", "lunch", false},
		{"[team]", "[team]", false},
		{"Re: [team] [list] lunch (fwd)", "lunch", true},
		{"lunch (FWD) (fwd)", "lunch", true},
		{"[fwd: Re: lunch]", "lunch", true},
		{"[Fwd: [Fwd: lunch]]", "lunch", true},
		{"Re:", "", true},
		{"report", "report", false},
		{"re", "re", false},
		{"  a \t b  ", "a b", false},
	} {
		got, reply := BaseSubject(tt.in)
		if got != tt.want || reply != tt.reply {
			t.Errorf("BaseSubject(%q) = %q, %t, want %q, %t", tt.in, got, reply, tt.want, tt.reply)
		}
	}
}

func TestDecodeParam(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{`a/b; name=x.txt`, "x.txt"},
		{`a/b; name="x y.txt"`, "x y.txt"},
		{`a/b; name=x y.txt; z=1`, "x y.txt"},
		{`a/b; name*=utf-8'en'%E4%BC%9A.txt`, "会.txt"},
		{`a/b; name*0="long "; name*1="name"`, "long name"},
		{`a/b; name*0*=gb2312''%D6%D0; name*1=x; name*2*=%B9%FA`, "中x国"},
		{`a/b; name="=?utf-8?B?5Lya?="`, "会"},
		{`a/b; name=old; name*=utf-8''new`, "new"},
		{`a/b; x=1`, ""},
		{`a/b; name*1=x`, ""},
	} {
		var p Part
		p.contentType([]byte(tt.in))
		if got := p.Filename(); got != tt.want {
			t.Errorf("name of %q = %q, want %q", tt.in, got, tt.want)
		}
		again := FormatParams("a/b", []Param{{"name", tt.want}})
		p.contentType([]byte(again))
		if got := p.Filename(); got != tt.want {
			t.Errorf("name of %q = %q, want %q", again, got, tt.want)
		}
	}
}

// A key keeps white space at its ends as one space; within, it is as the text.
func TestNormalizeKey(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", " ": " ", " \t ": " ", "Art ": "art ", "\u3000Art\u00a0": " art ", "a  b": "a b", "a\u200b ": "a ",
		"\u0301e": "\u0301e", "ｆｕｌｌ ": "full ", "会议 ": Normalize("会议") + " ",
	} {
		if got := NormalizeKey(in); got != want {
			t.Errorf("NormalizeKey(%q) = %q, want %q", in, got, want)
		}
	}
}
