package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// terminal is the terminal that in is, if it is one.
func terminal(in io.Reader) (*os.File, *unix.Termios) {
	f, ok := in.(*os.File)
	if !ok {
		return nil, nil
	}
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, nil
	}
	return f, state
}

func isTerminal(in io.Reader) bool {
	f, _ := terminal(in)
	return f != nil
}

// askSecret reads a line of the terminal that it does not show.
func askSecret(ctx context.Context, prompt string, std streams) (string, error) {
	f, was := terminal(std.in)
	if f == nil {
		return "", errors.New("the input is no terminal")
	}
	silent := *was
	silent.Lflag &^= unix.ECHO
	silent.Lflag |= unix.ICANON | unix.ISIG
	fmt.Fprint(std.err, prompt)
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETSF, &silent); err != nil {
		return "", err
	}
	defer func() {
		_ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETSF, was)
		fmt.Fprintln(std.err)
	}()
	line, err := readLine(ctx, f)
	if err == nil && line == "" {
		err = errors.New("nothing was typed")
	}
	return line, err
}

// confirm asks a question, and takes anything but yes for no.
func confirm(ctx context.Context, question string, std streams) (bool, error) {
	fmt.Fprint(std.err, question)
	line, err := readLine(ctx, std.in)
	if err != nil {
		fmt.Fprintln(std.err)
		return false, err
	}
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes", nil
}

// maxLine bounds what is read of a line.
const maxLine = 4096

// errInputEnds says that there is nobody who answers: the input ends before a line
// begins. It is no empty line, which may stand for a default.
var errInputEnds = errors.New("the input ends before an answer")

// readLine reads one line of in, without its end, and no octet after it. A last line
// may end with the input; where there is none the error is errInputEnds. Who waits for
// a person to type goes away with ctx; the read stays behind, and ends with the
// program.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		var line []byte
		b := make([]byte, 1)
		for len(line) < maxLine {
			n, err := in.Read(b)
			ends := n == 0 && errors.Is(err, io.EOF)
			if ends && len(line) == 0 {
				done <- result{"", errInputEnds}
				return
			}
			if ends || n == 1 && b[0] == '\n' {
				done <- result{strings.TrimSuffix(string(line), "\r"), nil}
				return
			}
			if n == 1 {
				line = append(line, b[0])
			}
			if err != nil && !errors.Is(err, io.EOF) {
				done <- result{"", err}
				return
			}
		}
		done <- result{"", errors.New("line is too long")}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
