package directory

import (
	"fmt"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

func newPanics() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: "dirpost_directory_panics_total", Help: "Times that a bug of ours broke off following a directory. Alert on any."})
}

// guard runs what follows a directory, and turns a panic into its error. An entry
// that we cannot handle then is a directory that cannot be followed: known people
// go on as before, on every node, instead of one node after the other going down
// with it.
func (f *Feeder) guard(source string, follow func() error) (err error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		f.panics.Inc()
		err = fmt.Errorf("panic: %v", v)
		f.log.Error("following a directory failed", "directory", source, "err", err, "stack", string(debug.Stack()))
	}()
	return follow()
}
