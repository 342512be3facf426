package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is who serves. The zero value is who runs this.
type account struct {
	name     string
	uid, gid int
	groups   []uint32
}

// serverAccount is the account of the package, where it is there.
func serverAccount(packaged bool) (account, error) {
	if !packaged || os.Geteuid() != 0 {
		return account{}, nil
	}
	u, err := user.Lookup("dirpost")
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		return account{}, nil
	}
	if err != nil {
		return account{}, err
	}
	a := account{name: u.Username}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	groups, err3 := u.GroupIds()
	if err := errors.Join(err1, err2, err3); err != nil {
		return account{}, fmt.Errorf("account %s: %w", u.Username, err)
	}
	a.uid, a.gid = uid, gid
	for _, g := range groups {
		if n, err := strconv.ParseUint(g, 10, 32); err == nil {
			a.groups = append(a.groups, uint32(n))
		}
	}
	return a, nil
}

// mayRead reports whether a may read a file, by asking the kernel as a.
func (a account) mayRead(ctx context.Context, path string) error {
	if a.name == "" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return f.Close()
	}
	cmd := exec.CommandContext(ctx, "/usr/bin/test", "-r", path)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: a.groups}}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("the server's account %s may not read %s: chgrp %s %s && chmod g+r %s, and g+x for the directories above it", a.name, path, a.name, path, path)
	}
	return err
}

// partOf names files that are not whole yet.
const partOf = ".dirpost-setup-*"

// A stagedFile is one that will be written when all questions are answered.
type stagedFile struct {
	path    string
	content []byte
	mode    os.FileMode
	owner   account // the zero value: root, or who runs this
	group   account // in addition, if owner is root
	keep    bool    // what is there now is kept with .old behind its name
}

// stage remembers a file to write, once, unless it is there with that content.
func (s *setup) stage(f stagedFile) {
	if was, err := os.ReadFile(f.path); err == nil && bytes.Equal(was, f.content) {
		return
	}
	for i := range s.staged {
		if s.staged[i].path == f.path {
			s.staged[i] = f
			return
		}
	}
	s.staged = append(s.staged, f)
}

// write writes the file next to its place, and moves it there when it is on the disk
// with its owner and mode: nobody ever sees half of it, or sees it with other rights.
func (f stagedFile) write() error {
	dir := filepath.Dir(f.path)
	tmp, err := os.CreateTemp(dir, partOf) // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // not there any more when all went well
	_, err = tmp.Write(f.content)
	if err == nil && f.owner.name != "" {
		err = tmp.Chown(f.owner.uid, f.owner.gid)
	} else if err == nil && f.group.name != "" {
		err = tmp.Chown(0, f.group.gid)
	}
	if err == nil {
		err = tmp.Chmod(f.mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	if f.keep {
		if err := keepOld(f.path); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp.Name(), f.path); err != nil {
		return err
	}
	return syncDir(dir)
}

// cleanUp removes what a setup has left that was killed while it wrote.
func cleanUp(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, partOf))
	for _, f := range left {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

// keepOld gives a file the further name with .old behind it, so that there is no
// moment without it.
func keepOld(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	next := path + ".old.part"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Link(path, next); err != nil {
		return fmt.Errorf("keep %s: %w", path, err)
	}
	return os.Rename(next, path+".old")
}

// syncDir makes a rename last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDirs makes the directory of the configuration, and that of certificates where
// setup puts any there.
func (s *setup) makeDirs() error {
	dir := filepath.Dir(s.path)
	made := []string{dir}
	mode := os.FileMode(0o750)
	if !s.packaged { // the account of PostgreSQL passes through to its directory
		mode = 0o711
	}
	if s.a.Certificate.Kind == certificateCSR {
		made = append(made, filepath.Dir(csrChain(s.path)))
	}
	for _, d := range made {
		err := os.Mkdir(d, mode)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if errors.Is(err, os.ErrNotExist) {
			err = os.MkdirAll(d, 0o755) // those above it are of no use to us alone
		}
		if err == nil && s.owner.name != "" {
			err = os.Chown(d, 0, s.owner.gid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
