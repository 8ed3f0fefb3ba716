package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// A Report is what a run found. It is what -json writes.
type Report struct {
	Made    time.Time `json:"made"`
	Took    float64   `json:"took_seconds"`
	Quick   bool      `json:"quick"`
	Machine Machine   `json:"machine"`
	// Busy is the part of the machine's cores that was busy while the bench had
	// nothing to do, before each section. On a quiet machine it is near 0.
	Busy    []float64 `json:"busy"`
	Series  []*Series `json:"series"`
	Ratios  []Ratio   `json:"ratios"`
	Goals   []Goal    `json:"goals"`
	Skipped []Note    `json:"skipped,omitempty"`
	Faults  []Note    `json:"faults,omitempty"`
}

// A Machine is what a run was made on and of.
type Machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	Commit     string `json:"commit"`
	Congestion string `json:"congestion_control"` // that the kernel takes by itself
}

// A Series is one thing that was measured of one system, round by round.
type Series struct {
	Scenario string `json:"scenario"` // what was done
	Metric   string `json:"metric"`   // what was looked at
	Unit     string `json:"unit"`
	System   string `json:"system"`
	Spread
}

// A Ratio is what a series is to that of another system.
type Ratio struct {
	Scenario string `json:"scenario"`
	Metric   string `json:"metric"`
	Of       string `json:"of"`
	To       string `json:"to"`
	Spread
}

// A Note says why something is not there.
type Note struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

func newReport(quick bool) *Report {
	return &Report{Made: time.Now().UTC().Truncate(time.Second), Quick: quick, Machine: thisMachine()}
}

func thisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Kernel: firstLine("/proc/sys/kernel/osrelease"),
		Congestion: firstLine("/proc/sys/net/ipv4/tcp_congestion_control")}
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	if out, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		m.Commit = strings.TrimSpace(string(out))
	}
	return m
}

func firstLine(name string) string {
	b, _ := os.ReadFile(name)
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// add adds the value of a round to a series.
func (r *Report) add(scenario, metric, unit, system string, value float64) {
	s := r.series(scenario, metric, system)
	if s == nil {
		s = &Series{Scenario: scenario, Metric: metric, Unit: unit, System: system}
		r.Series = append(r.Series, s)
	}
	s.Spread = spreadOf(append(s.Rounds, value))
}

// series finds a series, or returns nil.
func (r *Report) series(scenario, metric, system string) *Series {
	for _, s := range r.Series {
		if s.Scenario == scenario && s.Metric == metric && s.System == system {
			return s
		}
	}
	return nil
}

// median of a series; ok is false if there is none.
func (r *Report) median(scenario, metric, system string) (v float64, ok bool) {
	s := r.series(scenario, metric, system)
	if s == nil {
		return 0, false
	}
	return s.Median, true
}

func (r *Report) skip(what, why string)        { r.Skipped = append(r.Skipped, Note{what, why}) }
func (r *Report) fault(what string, err error) { r.Faults = append(r.Faults, Note{what, err.Error()}) }

// rustGateway is the name of the SNAP's peer.
const rustGateway = "Rust gateway"

// peers are the systems that others are compared with, of which a scenario has
// one at most: that of the SNAP alone is another.
var peers = []string{"pair", rustGateway}

// compared reports whether systems are compared in a metric.
func compared(metric string) bool {
	switch metric {
	case "throughput", "CPU", "connections", "delivered", "CPU per packet":
		return true
	}
	return strings.HasPrefix(metric, "first byte")
}

// finish works out the ratios and the goals.
func (r *Report) finish() {
	r.Took = time.Since(r.Made).Seconds()
	r.Ratios, r.Goals = nil, nil
	for _, s := range r.Series {
		for _, to := range []string{"pair", rustGateway, "kernel"} {
			if ref := r.series(s.Scenario, s.Metric, to); ref != nil && s.System != to && compared(s.Metric) {
				r.Ratios = append(r.Ratios, Ratio{s.Scenario, s.Metric, s.System, to, ratioOf(s.Rounds, ref.Rounds)})
			}
		}
	}
	r.Goals = r.judge()
}

// ratio finds a ratio, or returns nil.
func (r *Report) ratio(scenario, metric, of, to string) *Ratio {
	for i := range r.Ratios {
		if x := &r.Ratios[i]; x.Scenario == scenario && x.Metric == metric && x.Of == of && x.To == to {
			return x
		}
	}
	return nil
}

func readReport(name string) (*Report, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// publish prints the tables and writes them to where they are wanted.
func (r *Report) publish(jsonFile, markdown string) error {
	os.Stdout.WriteString(r.tables(false))
	if jsonFile != "" {
		b, err := json.MarshalIndent(r, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(jsonFile, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	if markdown != "" {
		return fillIn(markdown, r.tables(true))
	}
	return nil
}
