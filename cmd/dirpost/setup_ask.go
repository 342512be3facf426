package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// asker asks the person at the terminal.
type asker struct {
	std streams
	w   io.Writer
}

// Why nobody answers any more.
var (
	errInterrupted = errors.New("interrupted; nothing was changed")
	errSetupEnds   = fmt.Errorf("%w; nothing was changed", errInputEnds)
)

// line asks for a text. An empty line is the default.
func (q *asker) line(ctx context.Context, prompt, def string) (string, error) {
	for {
		shown := ""
		if def != "" {
			shown = " [" + def + "]"
		}
		fmt.Fprintf(q.w, "   %s%s: ", prompt, shown)
		text, err := readLine(ctx, q.std.in)
		if err != nil {
			fmt.Fprintln(q.w)
			return "", q.ended(ctx, err)
		}
		if text = strings.TrimSpace(text); text == "" {
			text = def
		}
		if text != "" {
			return text, nil
		}
	}
}

// list asks for several texts, with commas or spaces between them.
func (q *asker) list(ctx context.Context, prompt string, def []string) ([]string, error) {
	text, err := q.line(ctx, prompt, strings.Join(def, ", "))
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }), nil
}

// choice asks for one of several words; the first letters of one are enough.
func (q *asker) choice(ctx context.Context, prompt string, words []string, def string) (string, error) {
	if !slices.Contains(words, def) {
		def = words[0]
	}
	for {
		text, err := q.line(ctx, prompt+" ("+strings.Join(words, ", ")+")", def)
		if err != nil {
			return "", err
		}
		var fits []string
		for _, w := range words {
			if strings.HasPrefix(w, strings.ToLower(text)) {
				fits = append(fits, w)
			}
		}
		if len(fits) == 1 {
			return fits[0], nil
		}
		fmt.Fprintf(q.w, "   ✗ one of %s\n", strings.Join(words, ", "))
	}
}

// yes asks a question that is answered by yes or no.
func (q *asker) yes(ctx context.Context, prompt string, def bool) (bool, error) {
	word := map[bool]string{true: "yes", false: "no"}[def]
	text, err := q.choice(ctx, prompt, []string{"yes", "no"}, word)
	return text == "yes", err
}

// secret asks for a password, which is not shown.
func (q *asker) secret(ctx context.Context, prompt string) (string, error) {
	text, err := askSecret(ctx, "   "+prompt+": ", streams{q.std.in, q.w, q.w})
	return text, q.ended(ctx, err)
}

// ended is err as somebody reads it who was asked.
func (q *asker) ended(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case errors.Is(err, errInputEnds):
		return errSetupEnds
	}
	return err
}

// indent is a text with several lines below a mark.
func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n     ") }

// greet says what will happen.
func (s *setup) greet() {
	if s.present == nil {
		fmt.Fprintf(s.say, "This makes a mail server of five answers, each of which is tried at once. Nothing is\nwritten before you agree; Ctrl-C ends it. The configuration will be %s.\n", s.path)
		return
	}
	fmt.Fprintf(s.say, "%s is there. Press Enter to keep an answer; only what you answer\ndifferently is changed, and nothing before you agree. Ctrl-C ends it.\n", s.path)
}
