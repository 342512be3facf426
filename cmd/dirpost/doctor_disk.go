package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// space is what a file system has.
type space struct {
	total, free  uint64 // octets; free is what an ordinary process may take
	files, spare uint64 // inodes, and those not used; 0 where they are not counted
}

// spaceOf asks for the file system of a path.
func spaceOf(path string) (space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return space{}, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	unit := uint64(s.Bsize)
	return space{total: s.Blocks * unit, free: s.Bavail * unit, files: s.Files, spare: s.Ffree}, nil
}

// state judges it: nearly full is a warning, as good as full an error. Of a large
// one ten percent are plenty.
func (s space) state() string {
	const plenty, little = 10 << 30, 64 << 20
	percent := func(free, total uint64) uint64 {
		if total == 0 {
			return 100
		}
		return uint64(float64(free) / float64(total) * 100)
	}
	left, inodes := percent(s.free, s.total), percent(s.spare, s.files)
	switch {
	case left < 2, inodes < 2, s.free < little && s.total > 16*little:
		return stateError
	case left < 10 && s.free < plenty, inodes < 10 && s.spare < 100_000:
		return stateWarning
	}
	return stateOK
}

// disk looks at the space where we write, and where the database does if that is this
// host and we may know.
func (d *doctor) disk(ctx context.Context) {
	var dirs []string
	add := func(path string) {
		if abs, err := filepath.Abs(path); err == nil && path != "" {
			dirs = append(dirs, filepath.Dir(abs))
		}
	}
	add(d.path)
	add(d.file.Server.Socket)
	add(d.file.Auth.Socket.Path)
	seen := make(map[uint64]bool)
	for _, dir := range dirs {
		d.diskOf(dir, "make room: sockets and new files cannot be made", seen)
	}
	select {
	case <-d.shared.ready:
	case <-ctx.Done():
		return
	}
	if d.shared.db == nil {
		return
	}
	if !d.file.databaseIsHere() {
		d.unknown("disk", "the database is on another host: its disk was not looked at")
		return
	}
	s, err := databaseSettings(ctx, d.shared.db)
	if err != nil {
		return // said with the database
	}
	if data := s["data_directory"].value; data != "" {
		d.diskOf(data, "make room, or move the database (tablespaces, docs/install.md): full, it takes no mail, and senders keep it", seen)
		return
	}
	d.unknown("disk", "where the database is our role may not see (grant pg_read_all_settings to it): its disk was not looked at")
}

// diskOf looks at the file system of a directory, unless it was looked at.
func (d *doctor) diskOf(dir, do string, seen map[uint64]bool) {
	s, err := spaceOf(dir)
	if err != nil {
		return // that a directory is missing is said by who needs it
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err == nil {
		if seen[st.Dev] {
			return
		}
		seen[st.Dev] = true
	}
	text := fmt.Sprintf("%s: %s of %s free", dir, octets(int64(s.free)), octets(int64(s.total)))
	if s.files > 0 && s.spare*10 < s.files {
		text += fmt.Sprintf(", and %d of %d inodes", s.spare, s.files)
	}
	if state := s.state(); state != stateOK {
		d.add("disk", state, do, text)
		return
	}
	d.ok("disk", "%s", text)
}

// databaseIsHere reports whether the database is reached by a Unix socket.
func (f *File) databaseIsHere() bool {
	return strings.Contains(f.Database.URL, "host=/") || strings.Contains(f.Database.URL, "host=%2F") || strings.Contains(f.Database.URL, "host='/")
}
