//go:build unix

package test

import (
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
)

// wardenScript keeps a list of process groups and kills what is left on it when
// its input ends: when the tests have ended, however they did. A test binary
// that is killed, or that its own time limit ends, runs no cleanups. So it also
// removes the directory of the tests.
const wardenScript = `
groups=" "
while read -r verb group; do
	case $verb in
	add) groups="$groups$group " ;;
	del) groups="${groups%% $group *} ${groups#* $group }" ;;
	esac
done
for group in $groups; do kill -s KILL -- "-$group"; done 2>/dev/null
rm -rf -- "$1"
`

// A warden sees to it that no process outlives the tests.
type warden struct {
	mu    sync.Mutex // guards what follows
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

var theWarden = sync.OnceValues(func() (*warden, error) {
	w := &warden{cmd: exec.Command("sh", "-c", wardenScript, "sh", workDir)}
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	var err error
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return w, w.cmd.Start()
})

// watch puts a process group on the list, or takes it off.
func (w *warden) watch(verb string, group int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.stdin, "%s %d\n", verb, group)
}

// dismiss ends the warden once there is nothing left to watch.
func (w *warden) dismiss() {
	w.stdin.Close()
	w.cmd.Wait()
}
