package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code := run(ctx, os.Args, streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// ours reports whether the streams are those of the process: then the command has
// the process for itself, and may give up rights of it.
func (s streams) ours() bool { return s.err == os.Stderr }

// run runs one command line and returns the exit code. The name the program was
// called by chooses among dirpost, sendmail and mailq.
func run(ctx context.Context, args []string, std streams) int {
	switch filepath.Base(args[0]) {
	case "sendmail", "mailq", "newaliases":
		return sendmail(ctx, args, std)
	}
	root := newCommand(std)
	root.SetArgs(args[1:])
	err := root.ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(std.err, "dirpost: "+err.Error())
	return 1
}

// exitCode ends the program with a code when all has been said already.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }
