package intake

import (
	"strings"
	"testing"
	"unicode/utf8"

	"dirpost/mta/queue"
)

func TestParseAnswer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		subject, text string
		want          queue.Decision
		words         string
	}{
		"one word":                {"Re: Please decide: x", "Approve\r\n", queue.Approved, ""},
		"capitals, with a dot":    {"Re: x", "  APPROVE.\n\nThanks", queue.Approved, "Thanks"},
		"with a reason":           {"Re: x", "reject: This is not for sales.\nPlease ask bob@.\n\n-- \nCarol\n", queue.Rejected, "This is not for sales. Please ask bob@."},
		"yes":                     {"", "Yes, please!", queue.Approved, "please!"},
		"no":                      {"", "No.", queue.Rejected, ""},
		"quoted below":            {"Re: x", "Reject\n\nNot here.\n\nOn Mon, 1 Jan 2026, Moderation\n<moderate-abc@corp.example> wrote:\n> APPROVE    to let it through\n", queue.Rejected, "Not here."},
		"Outlook":                 {"Re: x", "approve\n\n-----Original Message-----\nFrom: Moderation\nREJECT\n", queue.Approved, ""},
		"quoted alone":            {"Re: x", "> APPROVE    to let it through\n> REJECT\n", queue.Undecided, ""},
		"answer below the quote":  {"Re: x", "On Monday you wrote:\n> please decide\napprove\n", queue.Undecided, ""},
		"the link":                {"approve", "", queue.Approved, ""},
		"the link, with a reason": {" Reject ", "Too long.\n", queue.Rejected, "Too long."},
		"subject of the question": {"Re: Please decide: approve my holidays", "Who is that?", queue.Undecided, ""},
		"another word":            {"Re: x", "Approval is fine with me", queue.Undecided, ""},
		"the text wins":           {"approve", "reject", queue.Rejected, ""},
		"nothing":                 {"", "", queue.Undecided, ""},
		"a colon only":            {"", ":\n> x", queue.Undecided, ""},
	} {
		got, words := parseAnswer(tt.subject, tt.text)
		if got != tt.want || words != tt.words {
			t.Errorf("%s: %s %q, want %s %q", name, got, words, tt.want, tt.words)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add("Re: x", "reject\n\nOn Monday x\nwrote:\n> y\n-- \nz")
	f.Add("approve", ":\n\n:\n>")
	f.Fuzz(func(t *testing.T, subject, text string) {
		text = strings.ToValidUTF8(text, "?")
		_, words := parseAnswer(subject, text)
		if len(words) > maxWords+4 || strings.ContainsAny(words, "\r\n") || !utf8.ValidString(words) {
			t.Errorf("words %q", words)
		}
	})
}
