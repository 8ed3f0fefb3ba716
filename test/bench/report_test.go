package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sampleReport is a report with a little of everything.
func sampleReport() *Report {
	r := &Report{Busy: []float64{.5}}
	for round := range 3 {
		for system, rate := range map[string]float64{"separate": 3.3, "serve": 3.9, "pair": 1} {
			r.add("download", "throughput", "Gbit/s", system, rate*float64(1+round))
		}
		r.add("download", "CPU", "s/GB", "separate", 8)
		r.add("download", "CPU of snap", "s/GB", "separate", 2)
		r.add("download", "allocations of snap", "1/MB", "separate", 7)
	}
	for system, rate := range map[string]float64{"SNAP": 200000, rustGateway: 100000} {
		r.add(gatewayScenario(0), "delivered", "packets/s", system, rate)
		r.add(gatewayScenario(60000), "CPU per packet", "us", system, 5e5/rate)
	}
	r.add("floors", "sum", "s/GB", "separate", 5)
	r.add("SNAP", "handshakes to floor", "x", "separate", .5)
	r.add("10000 tunnels", "memory per tunnel", "KB", "separate", 3)
	r.skip("kernel", "not root")
	r.finish()
	return r
}

func TestGoals(t *testing.T) {
	verdicts := map[string]string{}
	for _, g := range sampleReport().Goals {
		switch {
		case !g.Known:
			verdicts[g.Name] = "unknown"
		case g.Met:
			verdicts[g.Name] = "met"
		default:
			verdicts[g.Name] = "missed"
		}
	}
	for name, want := range map[string]string{
		"download, one stream, three processes, to the pair":                         "met",
		"download, one stream, SNAP and exit in one process, to the pair":            "missed",
		"upload, one stream, three processes, to the pair":                           "unknown",
		"download, CPU of separate to the sum of its floors":                         "missed",
		"download, CPU of serve to the sum of its floors":                            "unknown",
		"SNAP handshakes per core-second, to the X25519 floor":                       "missed",
		"memory of each of 10000 tunnels":                                            "met",
		"stripped binary":                                                            "unknown",
		"SNAP, packets between two of its tunnels when flooded, to the Rust gateway": "missed",
		"SNAP, CPU of a packet at 60000/s, to the Rust gateway":                      "missed",
	} {
		if got := verdicts[name]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestReportSurvivesItsFile(t *testing.T) {
	r := sampleReport()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := readReport(name)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := again.tables(true), r.tables(true); got != want {
		t.Errorf("tables of the file:\n%s\nwant\n%s", got, want)
	}
}

func TestTables(t *testing.T) {
	text := sampleReport().tables(true)
	for _, want := range []string{
		"busy with other things (50 %",
		"| download | throughput | separate | 6.60 (3.30–9.90) | Gbit/s | 3.30 (3.30–3.30) |",
		"| download | separate | snap | 2.00 (2.00–2.00) | 7.00 (7.00–7.00) |  |",
		"| tunnel to tunnel, flooded | delivered | SNAP | 200000 | packets/s | 2.00 |",
		"| stripped binary | <= 20 MB |  | not measured |",
		"- kernel: not root",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if n := strings.Count(line, "|"); strings.HasPrefix(line, "| download") && n != 8 && n != 7 && n != 5 {
			t.Errorf("a row with %d bars: %s", strings.Count(line, "|"), line)
		}
	}
}

func TestDocumentsAreFilledBetweenMarkers(t *testing.T) {
	name := filepath.Join(t.TempDir(), "doc.md")
	write := func(s string) {
		if err := os.WriteFile(name, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n" + beginMarker + "\nold\n" + endMarker + "\nafter\n")
	for range 2 {
		if err := fillIn(name, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	b, _ := os.ReadFile(name)
	if got, want := string(b), "before\n"+beginMarker+"\nnew\n"+endMarker+"\nafter\n"; got != want {
		t.Errorf("document %q, want %q", got, want)
	}
	write("no markers")
	if err := fillIn(name, "new\n"); err == nil {
		t.Error("a document without markers is changed")
	}
}

// The document must have the markers that the command looks for.
func TestTheDocumentHasMarkers(t *testing.T) {
	b, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(b), beginMarker) != 1 || strings.Count(string(b), endMarker) != 1 {
		t.Error("docs/performance.md has not one of each marker")
	}
}
