package apppassword

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestForm(t *testing.T) {
	t.Parallel()
	secret := generate()
	shown := string(secret)
	bare := strings.ReplaceAll(shown, "-", "")
	if len(shown) != 24 || len(bare) != size {
		t.Fatalf("%q is not five groups of four", shown)
	}
	for _, typed := range []string{
		shown, bare, strings.ToUpper(shown), strings.ReplaceAll(shown, "-", " "), " " + bare + "\t", strings.ReplaceAll(shown, "-", "–"),
		strings.ReplaceAll(shown, "-", "\u00a0"), strings.NewReplacer("0", "o", "1", "l").Replace(shown), strings.NewReplacer("0", "O", "1", "I").Replace(bare),
	} {
		if got, ok := parse(typed); !ok || got != bare {
			t.Errorf("parse(%q) = %q, %v, want %q", typed, got, ok, bare)
		}
	}
	for _, typed := range []string{"", bare[1:], bare + "0", shown + "-0", "u" + bare[1:], bare[:19] + "é", "hunter2", "correct horse battery staple", strings.Repeat("-", maxTyped) + bare} {
		if Recognise(typed) {
			t.Errorf("%q is recognised", typed)
		}
	}
}

// A typing mistake in any place is found, but for one in a million.
func TestCheck(t *testing.T) {
	t.Parallel()
	wrong, all := 0, 0
	for range 20 {
		bare, _ := parse(string(generate()))
		for i := range bare {
			for _, c := range alphabet {
				if mistyped := bare[:i] + string(c) + bare[i+1:]; mistyped != bare {
					all++
					if Recognise(mistyped) {
						wrong++
					}
				}
			}
		}
	}
	if wrong > 1 {
		t.Errorf("%d of %d mistyped ones are recognised", wrong, all)
	}
}

func TestGenerateDiffers(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		seen[string(generate())] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d different ones of 1000", len(seen))
	}
}

// FuzzParse: what is recognised has one bare form, which is recognised in every
// spelling; anything else is left to other systems.
func FuzzParse(f *testing.F) {
	f.Add("k7mq-2xw9-pf4d-h3ta-6ncr")
	f.Add(dashed("0123456789abcdef" + check("0123456789abcdef")))
	f.Add("O123 456789ABCDEF")
	f.Add("\xff\xfe----")
	f.Add(strings.Repeat("\u2014", 40))
	f.Fuzz(func(t *testing.T, typed string) {
		bare, ok := parse(typed)
		if !ok {
			if bare != "" {
				t.Errorf("parse(%q) = %q without ok", typed, bare)
			}
			return
		}
		if len(bare) != size || strings.Trim(bare, alphabet) != "" || !utf8.ValidString(typed) {
			t.Errorf("parse(%q) = %q", typed, bare)
		}
		for _, again := range []string{bare, dashed(bare), strings.ToUpper(bare)} {
			if got, ok := parse(again); !ok || got != bare {
				t.Errorf("parse(%q) = %q, %v, want %q", again, got, ok, bare)
			}
		}
	})
}

func BenchmarkDerive(b *testing.B) {
	f := &Factors{Salt: make([]byte, 16), Iterations: 4096}
	for b.Loop() {
		if _, err := derive("k7mq2xw9pf4dh3ta6ncr", f); err != nil {
			b.Fatal(err)
		}
	}
}
