// Package country says in which country an address is, by a file of the administrator
// in the format of MaxMind (GeoLite2 Country, DB-IP and others).
//
// # Concurrency
//
// A Database is safe for any number of goroutines. A file that was replaced is read
// again at the next question.
//
// # Limits
//
// A file may have 256 MiB. It is held in memory: a file that somebody writes into would
// end a process that has mapped it.
//
// # Security
//
// What such a file says of an address is a guess: it is for a person to read, and decides
// nothing.
package country

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// maxFile bounds a file, in octets.
const maxFile = 256 << 20

// Database is a file that knows the countries of addresses.
type Database struct {
	path string

	mu     sync.Mutex // guards what follows
	reader *maxminddb.Reader
	read   stamp
}

// stamp tells one version of the file from another.
type stamp struct {
	mod  time.Time
	size int64
}

// Open reads a file.
func Open(path string) (*Database, error) {
	d := &Database{path: filepath.Clean(path)}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d, d.refreshLocked()
}

// refreshLocked reads the file if it is another one than that which was read. After an
// error that stays in use.
func (d *Database) refreshLocked() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if at := (stamp{info.ModTime(), info.Size()}); d.reader != nil && at == d.read {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(b) > maxFile {
		return fmt.Errorf("%s: more than %d octets", d.path, maxFile)
	}
	r, err := maxminddb.OpenBytes(b)
	if err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	d.reader, d.read = r, stamp{info.ModTime(), info.Size()}
	return nil
}

// Built is when the file was made.
func (d *Database) Built() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reader.Metadata.BuildTime()
}

// Of returns the country of an address, as two letters (ISO 3166-1) and as an English
// name; "" where the file does not say.
func (d *Database) Of(a netip.Addr) (code, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.refreshLocked() // the one before will do
	var found struct {
		Country struct {
			Code  string            `maxminddb:"iso_code"`
			Names map[string]string `maxminddb:"names"`
		} `maxminddb:"country"`
	}
	if err := d.reader.Lookup(a.Unmap().WithZone("")).Decode(&found); err != nil {
		return "", ""
	}
	code = found.Country.Code
	if len(code) != 2 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "", ""
	}
	if name = found.Country.Names["en"]; name == "" || len(name) > 64 || strings.ContainsAny(name, "\r\n\x00") {
		name = code
	}
	return code, name
}
