package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticks is USER_HZ, the unit of the times in /proc/PID/stat; it is 100 on every
// Linux that Go runs on.
const ticks = 100

// process is one line of /proc/PID/stat, as far as we need it.
type process struct {
	parent int
	cpu    int64 // ticks, own and of reaped children
}

// processes reads all of /proc.
func processes() (map[int]process, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	all := make(map[int]process, len(stats))
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		// The command stands in parentheses and may hold anything.
		i := strings.LastIndexByte(string(b), ')')
		f := strings.Fields(string(b[i+1:]))
		if len(f) < 15 {
			continue
		}
		p := process{}
		p.parent, _ = strconv.Atoi(f[1])
		for _, n := range f[11:15] { // utime stime cutime cstime
			v, _ := strconv.ParseInt(n, 10, 64)
			p.cpu += v
		}
		all[pid] = p
	}
	return all, nil
}

// family returns the CPU time of the processes in roots and all below them,
// each counted once.
func family(roots []int) (time.Duration, error) {
	all, err := processes()
	if err != nil {
		return 0, err
	}
	root := map[int]bool{}
	for _, pid := range roots {
		if _, ok := all[pid]; !ok {
			return 0, fmt.Errorf("process %d: not running", pid)
		}
		root[pid] = true
	}
	var sum int64
	for pid, p := range all {
		for up := pid; up > 1; up = all[up].parent {
			if root[up] {
				sum += p.cpu
				break
			}
		}
	}
	return time.Duration(sum) * time.Second / ticks, nil
}

// memory is the proportional set size of processes, octets: what they do not
// share, and their part of what they do.
type memory struct {
	private int64 // all but shared memory
	shared  int64 // the database's buffers, as far as they have been touched
}

func (m memory) minus(o memory) memory { return memory{m.private - o.private, m.shared - o.shared} }

// pss returns the memory of the processes in roots and all below them.
func pss(roots []int) (sum memory, err error) {
	all, err := processes()
	if err != nil {
		return memory{}, err
	}
	root := map[int]bool{}
	for _, pid := range roots {
		root[pid] = true
	}
	for pid := range all {
		for up := pid; up > 1; up = all[up].parent {
			if root[up] {
				sum.add(pid)
				break
			}
		}
	}
	return sum, nil
}

// add adds the memory of one process, nothing if it has ended.
func (m *memory) add(pid int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		if !strings.HasPrefix(name, "Pss_") {
			continue
		}
		kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		switch name {
		case "Pss_Anon", "Pss_File":
			m.private += kb << 10
		case "Pss_Shmem":
			m.shared += kb << 10
		}
	}
}
