package intake

import (
	"context"
	"fmt"
	"io"
	"strings"
	"unicode"

	"dirpost/internal/message"
	"dirpost/mta/queue"
)

// maxAnswer bounds how much of an answer is read, and maxWords what of it is told
// to the author, in octets.
const (
	maxAnswer = 64 << 10
	maxWords  = 800
)

// readAnswer reads what a moderator has answered: queue.Undecided if that cannot be
// told, and the words for the author.
func (d *Door) readAnswer(ctx context.Context, p *plan, parsed *message.Parsed) (queue.Decision, string, error) {
	r, err := d.Blobs.Open(ctx, p.content.Body)
	if err != nil {
		return 0, "", fmt.Errorf("read answer: %w", err)
	}
	defer r.Close()
	text := ""
	if part := textPart(parsed.Root); part != nil {
		b, err := io.ReadAll(io.LimitReader(part.TextReader(r), maxAnswer))
		if err != nil {
			return 0, "", fmt.Errorf("read answer: %w", err)
		}
		text = strings.ToValidUTF8(string(b), "\uFFFD")
	}
	verdict, words := parseAnswer(message.DecodeHeader(parsed.Header.Get("Subject")), text)
	return verdict, words, nil
}

// textPart returns the part with what somebody wrote: the first plain text, else the
// first text, that is no attachment.
func textPart(root *message.Part) (found *message.Part) {
	if root == nil {
		return nil
	}
	root.All(func(p *message.Part) bool {
		if p.Type != "text" || p.Disposition == "attachment" {
			return true
		}
		if found == nil || p.Subtype == "plain" && found.Subtype != "plain" {
			found = p
		}
		return found.Subtype != "plain"
	})
	return found
}

// parseAnswer finds the decision: the first word that the moderator wrote, else the
// subject if it is that word alone, as the links of the question make it. What
// follows the word, up to what is quoted, is for the author.
func parseAnswer(subject, text string) (queue.Decision, string) {
	own := ownWords(text)
	word, rest := firstWord(own)
	if d := verdictOf(word); d != queue.Undecided {
		return d, cutWords(rest)
	}
	if d := verdictOf(strings.TrimSpace(subject)); d != queue.Undecided {
		return d, cutWords(own)
	}
	return queue.Undecided, ""
}

func verdictOf(word string) queue.Decision {
	switch strings.ToLower(word) {
	case "approve", "approved", "accept", "yes":
		return queue.Approved
	case "reject", "rejected", "deny", "no":
		return queue.Rejected
	}
	return queue.Undecided
}

// firstWord splits the first word of letters from what follows it and its
// punctuation.
func firstWord(text string) (word, rest string) {
	text = strings.TrimLeftFunc(text, func(r rune) bool { return !unicode.IsLetter(r) })
	end := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsLetter(r) })
	if end < 0 {
		return text, ""
	}
	return text[:end], strings.TrimLeftFunc(text[end:], func(r rune) bool { return unicode.IsSpace(r) || unicode.IsPunct(r) })
}

// ownWords returns what the moderator wrote, without what is quoted below it, and
// without a signature (RFC 3676 §4.3).
func ownWords(text string) string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(text, "\r\n", "\n")) {
		line = strings.TrimSuffix(line, "\n")
		switch trimmed := strings.TrimSpace(line); {
		case line == "-- ", strings.HasPrefix(trimmed, ">"), strings.HasPrefix(trimmed, "-----"), strings.HasPrefix(trimmed, "_____"):
			return strings.Join(dropIntroduction(lines), "\n")
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// dropIntroduction takes the line before a quotation away that says whose it is:
// "On Monday, … wrote:".
func dropIntroduction(lines []string) []string {
	n := len(lines)
	for n > 0 && strings.TrimSpace(lines[n-1]) == "" {
		n--
	}
	// Clients break the line; it is the last paragraph then.
	if n == 0 || !strings.HasSuffix(strings.TrimSpace(lines[n-1]), ":") {
		return lines[:n]
	}
	for i := n - 1; i >= max(0, n-3); i-- {
		if i == 0 {
			if n > 1 {
				return lines[:n-1]
			}
			return lines[:n] // all there is
		}
		if strings.TrimSpace(lines[i-1]) == "" {
			return lines[:i]
		}
	}
	return lines[:n-1]
}

// cutWords is text as one line of bounded length.
func cutWords(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= maxWords {
		return text
	}
	return strings.ToValidUTF8(text[:maxWords], "") + "…"
}
