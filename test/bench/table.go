package main

import (
	"fmt"
	"math"
	"os"
	"strings"
	"unicode/utf8"
)

// Markers stand around what is filled into a document.
const (
	beginMarker = "<!-- bench: begin -->"
	endMarker   = "<!-- bench: end -->"
)

// fillIn replaces what stands between the markers of a document.
func fillIn(name, text string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), beginMarker)
	_, after, ok2 := strings.Cut(rest, endMarker)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no %s and %s", name, beginMarker, endMarker)
	}
	return os.WriteFile(name, []byte(before+beginMarker+"\n"+text+endMarker+after), 0o644)
}

// A grid is a table; its first row is the heading.
type grid [][]string

func (g grid) render(markdown bool) string {
	var out strings.Builder
	widths := make([]int, len(g[0]))
	for _, row := range g {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range g {
		for i, cell := range row {
			if markdown {
				out.WriteString("| " + cell + " ")
				continue
			}
			out.WriteString(cell)
			if i < len(row)-1 {
				out.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		if markdown {
			out.WriteString("|")
		}
		out.WriteString("\n")
		if n == 0 && markdown {
			out.WriteString("|" + strings.Repeat("---|", len(row)) + "\n")
		}
	}
	return out.String()
}

// number prints three figures.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == 0:
		return "0"
	case a >= 1000:
		return fmt.Sprintf("%.0f", v)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= .995:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// String is the middle value, and the least and the greatest if there are more.
func (s Spread) String() string {
	if len(s.Rounds) < 2 {
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median), number(s.Min), number(s.Max))
}

// tables are all tables of a report.
func (r *Report) tables(markdown bool) string {
	var out strings.Builder
	title := func(s string) {
		if markdown {
			s = "### " + s + "\n"
		}
		out.WriteString("\n" + s + "\n")
	}
	out.WriteString("\n" + r.preamble() + "\n")
	if len(r.Goals) > 0 {
		title("Goals")
		out.WriteString(r.goalGrid().render(markdown))
	}
	title("Medians of the rounds (least–greatest), and the ratios round by round")
	out.WriteString(r.seriesGrid().render(markdown))
	if g := r.processGrid(); len(g) > 1 {
		title("CPU seconds per GB and allocations, by process")
		out.WriteString(g.render(markdown))
	}
	for _, notes := range []struct {
		name string
		all  []Note
	}{{"Skipped", r.Skipped}, {"Faults", r.Faults}} {
		if len(notes.all) > 0 {
			title(notes.name)
			for _, n := range notes.all {
				fmt.Fprintf(&out, "- %s: %s\n", n.What, n.Why)
			}
		}
	}
	out.WriteString("\n")
	return out.String()
}

// preamble says what was measured where.
func (r *Report) preamble() string {
	text := fmt.Sprintf("%s, %d cores (%s), Linux %s, %s, commit %s, %.0f s.", r.Made.Format("2006-01-02 15:04 MST"), r.Machine.Cores,
		r.Machine.CPU, r.Machine.Kernel, r.Machine.Go, r.Machine.Commit, r.Took)
	if r.Quick {
		text += " A quick run: too short to say much."
	}
	if len(r.Busy) > 0 {
		if busy := quantile(r.Busy, .5); busy > .1 {
			text += fmt.Sprintf(" The machine was busy with other things (%.0f %% of its cores between the measurements): only ratios mean something, and they spread.", busy*100)
		}
	}
	return text
}

func (r *Report) goalGrid() grid {
	g := grid{{"goal", "wanted", "found", ""}}
	for _, x := range r.Goals {
		found, verdict := "", "not measured"
		if x.Known {
			found, verdict = number(x.Got)+x.Unit, "missed"
			if x.Met {
				verdict = "met"
			}
		}
		g = append(g, []string{x.Name, x.Want, found, verdict})
	}
	return g
}

func (r *Report) seriesGrid() grid {
	g := grid{{"scenario", "metric", "system", "median", "unit", "to the peer", "to the kernel"}}
	for _, s := range r.Series {
		if ofProcess(s.Metric) {
			continue // has a grid of its own
		}
		row := []string{s.Scenario, s.Metric, s.System, s.Spread.String(), s.Unit}
		for _, references := range [][]string{peers, {"kernel"}} {
			cell := ""
			for _, to := range references {
				if x := r.ratio(s.Scenario, s.Metric, s.System, to); x != nil {
					cell = x.Spread.String()
				}
			}
			row = append(row, cell)
		}
		g = append(g, row)
	}
	return g
}

// Metrics of a process, whose name follows.
const (
	cpuOf         = "CPU of "
	allocationsOf = "allocations of "
	allocatedOf   = "allocated by "
)

func ofProcess(metric string) bool {
	for _, of := range []string{cpuOf, allocationsOf, allocatedOf} {
		if strings.HasPrefix(metric, of) {
			return true
		}
	}
	return false
}

func (r *Report) processGrid() grid {
	g := grid{{"scenario", "system", "process", "CPU-s/GB", "allocations/MB", "KB allocated/MB"}}
	for _, s := range r.Series {
		process, ok := strings.CutPrefix(s.Metric, cpuOf)
		if !ok {
			continue
		}
		row := []string{s.Scenario, s.System, process, s.Spread.String()}
		for _, of := range []string{allocationsOf, allocatedOf} {
			cell := ""
			if a := r.series(s.Scenario, of+process, s.System); a != nil {
				cell = a.Spread.String()
			}
			row = append(row, cell)
		}
		g = append(g, row)
	}
	return g
}
