package child

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// User is the account a child runs as. The zero value is our own.
type User struct {
	Name     string
	UID, GID int
}

// isSelf reports whether no change of user is needed.
func (u User) isSelf() bool { return u.Name == "" }

// Unprivileged returns the first of names that exists, else nobody, when we are
// root: initdb, postgres and a careful slapd refuse or should not run as root.
// An ordinary user stays what he is.
func Unprivileged(names ...string) (User, error) {
	if os.Geteuid() != 0 {
		return User{}, nil
	}
	for _, name := range append(names, "nobody") {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 != nil || err2 != nil || uid == 0 {
			continue
		}
		return User{Name: name, UID: uid, GID: gid}, nil
	}
	return User{}, fmt.Errorf("no unprivileged user among %v and nobody: add one, or run as an ordinary user", names)
}

// MakeDir makes dir, which must not exist, for u alone.
func MakeDir(dir string, u User) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return u.own(dir)
}

// own gives path to u.
func (u User) own(path string) error {
	if u.isSelf() {
		return nil
	}
	return os.Lchown(path, u.UID, u.GID)
}

// Command is one program to run.
type Command struct {
	Path string
	Args []string // without the program's name
	Env  []string // NAME=value, beside the little that every child gets
	User User
	Root bool   // it has to think that it is root, whoever we are
	Log  string // file that gets standard output and error, appended; "" discards them
	// Stop asks the program to end in order, Kill is sent when we die.
	Stop, Kill syscall.Signal
}

// cmd prepares c: own process group (Ctrl-C at the terminal reaches us alone, so
// that we stop children in order), own environment (an inherited locale that is
// not generated makes initdb fail), working directory that every user can enter.
func (c Command) cmd(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Dir = "/"
	cmd.Env = []string{"LC_ALL=C.UTF-8", "TZ=UTC", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Env = append(cmd.Env, c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: c.Kill}
	if c.Root {
		asRoot(cmd.SysProcAttr)
	}
	if !c.User.isSelf() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(c.User.UID), Gid: uint32(c.User.GID)}
	}
	return cmd
}

// Output runs c to its end and returns what it printed, both streams together.
func (c Command) Output(ctx context.Context) ([]byte, error) {
	c.Kill = syscall.SIGKILL
	cmd := c.cmd(ctx)
	// Pdeathsig follows the thread that forked, which must therefore stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", c.Path, err, lastLines(out, 5))
	}
	return out, nil
}

// Process is a running child.
type Process struct {
	c    Command
	pid  int
	done chan struct{}
	err  error // set before done is closed
}

// Start starts c. The child is waited for by a goroutine that holds the thread
// which forked it, since its death signal follows that thread (prctl(2)).
func Start(c Command) (*Process, error) {
	cmd := c.cmd(context.Background()) // ends by Stop, not by a context
	var log *os.File
	if c.Log != "" {
		var err error
		if log, err = os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return nil, fmt.Errorf("log of %s: %w", c.Path, err)
		}
		cmd.Stdout, cmd.Stderr = log, log
	}
	p := &Process{c: c, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if log != nil {
			_ = log.Close() // the child has its own descriptor
		}
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns why the child ended, nil while it runs and after a normal end.
func (p *Process) Err() error {
	select {
	case <-p.done:
		if p.err == nil {
			return nil
		}
		tail := ""
		if b, err := os.ReadFile(p.c.Log); err == nil && len(b) > 0 {
			tail = ": " + lastLines(b, 5)
		}
		return fmt.Errorf("%s: %w%s", p.c.Path, p.err, tail)
	default:
		return nil
	}
}

// Signal sends sig to the child, unless it has ended.
func (p *Process) Signal(sig syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(p.pid, sig) // gone in the meantime: nothing to do
	}
}

// Stop asks the child to end and waits for it; after grace it is killed.
func (p *Process) Stop(grace time.Duration) {
	p.Signal(p.c.Stop)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		<-p.done
	}
}

// await calls ready until it returns nil, the child ends, or limit has passed.
func (p *Process) await(ctx context.Context, limit time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	wait := time.NewTicker(10 * time.Millisecond)
	defer wait.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			if err := p.Err(); err != nil {
				return err
			}
			return fmt.Errorf("%s ended at once", p.c.Path)
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", p.c.Path, err)
		case <-wait.C:
		}
	}
}

// lastLines returns at most n last lines of b in one line.
func lastLines(b []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

// CopyFile copies a small file to a new one that u alone may read.
func CopyFile(from, to string, u User) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		return err
	}
	return u.own(to)
}

// WriteFile writes a file that is there whole or not at all, however we end; it does not
// survive a crash of the machine in the next seconds.
func WriteFile(path string, b []byte, mode os.FileMode) error {
	part := path + ".part"
	if err := os.WriteFile(part, b, mode); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// OwnsPIDFile reports whether the process that a pid file names is alive and is
// the one that was started with dir on its command line.
func OwnsPIDFile(file, dir string) bool {
	b, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(line), dir+"/")
}
