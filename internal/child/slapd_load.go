package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Load adds entries in LDIF to the database of a server that is not running.
func (cfg SlapdConfig) Load(ctx context.Context, ldif string) error {
	path := filepath.Join(cfg.Dir, "load.ldif")
	if err := cfg.write(path, ldif); err != nil {
		return err
	}
	defer os.Remove(path)
	out, err := Command{Path: cfg.Programs.Slapadd, User: cfg.User, Args: []string{"-q", "-w", "-f", cfg.conf(), "-l", path}}.Output(ctx)
	if err != nil {
		return fmt.Errorf("load directory entries: %w", err)
	}
	_ = out // progress marks
	return nil
}

// LoadMore is Load into a database that has entries already: all of ldif is added, or
// none when it ends early. If it is killed, Recover undoes it, and what loaded has
// written in Database, which is called at the end.
func (cfg SlapdConfig) LoadMore(ctx context.Context, ldif string, loaded func() error) error {
	if err := cfg.keep(); err != nil {
		return fmt.Errorf("copy the directory's database: %w", err)
	}
	err := cfg.Load(ctx, ldif)
	if err == nil {
		err = loaded()
	}
	if err != nil {
		return errors.Join(err, cfg.Recover())
	}
	return os.RemoveAll(cfg.kept())
}

// Recover brings back the database as it was before a LoadMore that was killed: quick
// loading leaves one that is of no use. The server must not be running.
func (cfg SlapdConfig) Recover() error {
	if _, err := os.Stat(cfg.kept()); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := os.RemoveAll(cfg.Database()); err != nil {
		return err
	}
	return os.Rename(cfg.kept(), cfg.Database())
}

// keep copies the database.
func (cfg SlapdConfig) keep() error {
	part := cfg.kept() + ".part"
	if err := os.RemoveAll(part); err != nil { // of one that was killed
		return err
	}
	if err := MakeDir(part, cfg.User); err != nil {
		return err
	}
	files, err := os.ReadDir(cfg.Database())
	if err != nil {
		return err
	}
	for _, f := range files {
		to := filepath.Join(part, f.Name())
		if err := errors.Join(copySparse(filepath.Join(cfg.Database(), f.Name()), to), cfg.User.own(to)); err != nil {
			return err
		}
	}
	return os.Rename(part, cfg.kept())
}

// Database is the directory of the database; slapd does not mind other files in it.
func (cfg SlapdConfig) Database() string { return filepath.Join(cfg.Dir, "db") }

func (cfg SlapdConfig) kept() string { return filepath.Join(cfg.Dir, "db.kept") }

// copySparse copies a file, but not its holes: that of a database is mostly one, of
// some GiB.
func copySparse(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(copyData(in, out), out.Close())
}

func copyData(in, out *os.File) error {
	size, err := in.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	for at := int64(0); at < size; {
		begin, err := in.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole to the end
			break
		}
		if err != nil {
			return err
		}
		if at, err = in.Seek(begin, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, begin), io.NewSectionReader(in, begin, at-begin)); err != nil {
			return err
		}
	}
	return out.Truncate(size)
}
