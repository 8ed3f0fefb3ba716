//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticksPerSecond is USER_HZ, which is 100 on every system that Go runs on.
const ticksPerSecond = 100

// cpuSeconds is the CPU time that a process has used, in user and kernel mode.
func cpuSeconds(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseCPU(b)
}

// parseCPU reads fields 14 and 15 of /proc/PID/stat, see proc_pid_stat(5). The
// second field may hold spaces and parentheses.
func parseCPU(b []byte) (float64, error) {
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	var ticks float64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseUint(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/stat: %w", err)
		}
		ticks += float64(n)
	}
	return ticks / ticksPerSecond, nil
}

// memory is the resident memory of a process in bytes: now, and the most there
// has been since resetPeak.
func memory(pid int) (now, peak int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseKiB(b, "VmRSS:"), parseKiB(b, "VmHWM:"), nil
}

// parseKiB reads a line such as "VmRSS:   1234 kB" and returns bytes; 0: none.
func parseKiB(b []byte, name string) int64 {
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// resetPeak makes the peak of a process what it has now.
func resetPeak(pid int) {
	os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// busySeconds is the CPU time that everybody on the machine has used.
func busySeconds() float64 {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	var ticks float64
	for i, f := range strings.Fields(line) {
		// user nice system idle iowait irq softirq steal
		if n, err := strconv.ParseFloat(f, 64); err == nil && i <= 8 && i != 4 && i != 5 {
			ticks += n
		}
	}
	return ticks / ticksPerSecond
}
