//go:build linux

package scionlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A Lab is a running network.
type Lab struct {
	Tools *Tools
	Dir   string
	ASes  []*AS

	processes []*Process
	warden    *warden
	claim     *net.UDPConn
	life      *time.Timer
	once      sync.Once
}

// A Config says what network to make.
type Config struct {
	Tools *Tools
	// Dir exists and is used for nothing else.
	Dir string
	// Life bounds that of the network.
	Life time.Duration
	// Short makes paths that expire after 337 seconds, the least there is. If
	// it is false they live for 6 hours.
	Short bool
}

// Start makes a network and starts it. It returns when every AS knows its
// paths; if that does not happen while ctx lasts, it says what is missing. The
// network ends with Close, after its life, or with this process, however that
// ends.
func Start(ctx context.Context, cfg Config) (*Lab, error) {
	tools := cfg.Tools
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	network, claim, err := takeSlot()
	if err != nil {
		return nil, err
	}
	l := &Lab{Tools: tools, Dir: dir, ASes: plan(dir, network), claim: claim}
	if err := configure(ctx, cfg, dir, l.ASes); err != nil {
		claim.Close()
		return nil, err
	}
	if l.warden, err = newWarden(); err != nil {
		claim.Close()
		return nil, err
	}
	l.life = time.AfterFunc(cfg.Life, l.Close)
	for _, as := range l.ASes {
		for _, p := range as.programs() {
			l.processes = append(l.processes, &Process{Name: p.Name, Log: filepath.Join(dir, p.Name+".log"),
				path: tools.Path(p.tool), args: []string{"--config", p.config}, warden: l.warden})
		}
	}
	for _, p := range l.processes {
		if err := p.Start(); err != nil {
			l.Close()
			return nil, err
		}
	}
	if err := l.AwaitPaths(ctx); err != nil {
		err = errors.Join(err, l.dead())
		l.Close()
		return nil, err
	}
	return l, nil
}

// AS returns the AS of this ISD-AS. It panics if there is none.
func (l *Lab) AS(ia string) *AS {
	i := slices.IndexFunc(l.ASes, func(as *AS) bool { return as.IA == ia })
	if i < 0 {
		panic("no AS " + ia)
	}
	return l.ASes[i]
}

// Process returns the process of this name, or nil.
func (l *Lab) Process(name string) *Process {
	i := slices.IndexFunc(l.processes, func(p *Process) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return l.processes[i]
}

// Processes returns all processes, those that do not run included.
func (l *Lab) Processes() []*Process { return slices.Clone(l.processes) }

// Close ends all processes.
func (l *Lab) Close() {
	l.once.Do(func() {
		l.life.Stop()
		for _, p := range l.processes {
			p.Kill() // those that run; nothing of them is needed any more
		}
		l.warden.dismiss()
		l.claim.Close()
	})
}

// dead names the processes that have ended by themselves, and the end of what
// they said.
func (l *Lab) dead() error {
	var all error
	for _, p := range l.processes {
		if p.Ended() {
			said, _ := os.ReadFile(p.Log)
			all = errors.Join(all, fmt.Errorf("%s has ended:\n%s", p.Name, said[max(0, len(said)-1000):]))
		}
	}
	return all
}
