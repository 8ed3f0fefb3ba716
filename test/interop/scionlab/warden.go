//go:build linux

package scionlab

import (
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
)

// wardenScript kills the process groups that are left on its list when its input
// ends: when whoever started it has ended, however that was.
const wardenScript = `
groups=" "
while read -r verb group; do
	case $verb in
	add) groups="$groups$group " ;;
	del) groups="${groups%% $group *} ${groups#* $group }" ;;
	esac
done
for group in $groups; do kill -s KILL -- "-$group"; done 2>/dev/null
`

// A warden sees to it that no process of the network outlives it.
type warden struct {
	cmd *exec.Cmd

	mu    sync.Mutex // guards what follows
	stdin io.WriteCloser
}

func newWarden() (*warden, error) {
	w := &warden{cmd: exec.Command("sh", "-c", wardenScript)}
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	var err error
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a warden of processes: %w", err)
	}
	return w, nil
}

// watch puts a process group on the list, or takes it off.
func (w *warden) watch(verb string, group int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.stdin, "%s %d\n", verb, group)
}

// dismiss kills what is left on the list.
func (w *warden) dismiss() {
	w.mu.Lock()
	w.stdin.Close()
	w.mu.Unlock()
	w.cmd.Wait()
}
