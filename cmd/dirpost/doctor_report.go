package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// report prints findings as they come.
type report struct {
	std      streams
	enc      *json.Encoder // nil: for people
	colour   bool
	progress bool // the error stream is a terminal: say what is waited for
	count    map[string]int
	err      error // of writing
}

func newReport(asJSON bool, std streams) *report {
	r := &report{std: std, count: make(map[string]int), progress: isScreen(std.err)}
	if asJSON {
		r.enc = json.NewEncoder(std.out)
	}
	r.colour = !asJSON && isScreen(std.out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" // no-color.org
	return r
}

// isScreen reports whether somebody looks at what is written to w.
func isScreen(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// colours are those of the states (ECMA-48, SGR).
var colours = map[string]string{stateOK: "32", stateWarning: "33", stateError: "31", stateUnknown: "2"}

// print prints what a check has found.
func (r *report) print(all []finding) {
	r.clear()
	for _, f := range all {
		r.count[f.State]++
		if r.err != nil {
			continue
		}
		if r.enc != nil {
			r.err = r.enc.Encode(f)
			continue
		}
		state := fmt.Sprintf("%-8s", f.State)
		if r.colour {
			state = "\x1b[" + colours[f.State] + "m" + state + "\x1b[0m"
		}
		_, r.err = fmt.Fprintf(r.std.out, "%s %-18s %s\n", state, f.Subject, f.Text)
		if f.Do != "" && r.err == nil {
			_, r.err = fmt.Fprintf(r.std.out, "%27s → %s\n", "", strings.ReplaceAll(f.Do, "\n", "; "))
		}
	}
}

// wait says what is waited for.
func (r *report) wait(checks []*runningCheck) {
	if !r.progress {
		return
	}
	var names []string
	for _, c := range checks {
		select {
		case <-c.done:
		default:
			if !slices.Contains(names, c.name) {
				names = append(names, c.name)
			}
		}
	}
	if len(names) > 0 {
		fmt.Fprintf(r.std.err, "\r\x1b[Kwaiting for %s …", strings.Join(names, ", "))
	}
}

// clear takes the line of wait away.
func (r *report) clear() {
	if r.progress {
		fmt.Fprint(r.std.err, "\r\x1b[K")
	}
}

// end prints the sum, and returns the exit status.
func (r *report) end() error {
	if r.enc == nil && r.err == nil {
		var words []string
		for _, s := range []string{stateError, stateWarning, stateUnknown, stateOK} {
			if n := r.count[s]; n > 0 {
				if n > 1 && (s == stateError || s == stateWarning) {
					s += "s"
				}
				words = append(words, fmt.Sprintf("%d %s", n, s))
			}
		}
		_, r.err = fmt.Fprintf(r.std.out, "In all: %s.\n", strings.Join(words, ", "))
	}
	switch {
	case r.err != nil:
		return r.err
	case r.count[stateError] > 0:
		return exitCode(1)
	case r.count[stateWarning] > 0:
		return exitCode(2)
	}
	return nil
}
