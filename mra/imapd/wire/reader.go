package wire

import (
	"bufio"
	"errors"
	"io"
)

// ErrLineTooLong reports a line beyond its limit. What follows on the
// connection cannot be trusted to begin with a command; it must be closed.
var ErrLineTooLong = errors.New("line too long")

// Source has the buffered input of a connection. It is asked each time, since an
// idle session gives its buffer away and one after STARTTLS has another.
type Source interface {
	Reader() *bufio.Reader
}

// readLine reads a line of at most max octets and returns it without its end.
// It is valid until the next read. A bare LF ends a line too, as people at a
// terminal send it.
func readLine(src Source, max int) ([]byte, error) {
	r := src.Reader()
	line, err := r.ReadSlice('\n')
	if err == nil && len(line) <= max+2 {
		return chomp(line), nil
	}
	var long []byte
	for errors.Is(err, bufio.ErrBufferFull) && len(long) <= max {
		long = append(long, line...)
		line, err = r.ReadSlice('\n')
	}
	switch {
	case err == nil || errors.Is(err, bufio.ErrBufferFull):
		long = append(long, line...)
		if chomped := chomp(long); err == nil && len(chomped) <= max {
			return chomped, nil
		}
		return nil, ErrLineTooLong
	case err == io.EOF && len(long)+len(line) > 0:
		return nil, io.ErrUnexpectedEOF
	}
	return nil, err
}

// chomp takes the end off a line.
func chomp(line []byte) []byte {
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}

// discard skips n octets.
func discard(src Source, n int64) error {
	for n > 0 {
		k, err := src.Reader().Discard(int(min(n, 1<<20)))
		n -= int64(k)
		if err != nil {
			return err
		}
	}
	return nil
}
