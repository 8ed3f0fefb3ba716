//go:build bench && linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestMain lets the binary of the test be what it starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "part" {
		if err := runPart(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestQuickRun runs everything once, for whether it works, not for what it
// finds.
func TestQuickRun(t *testing.T) {
	name := filepath.Join(t.TempDir(), "report.json")
	if err := run([]string{"-quick", "-json", name}); err != nil {
		t.Fatal(err)
	}
	r, err := readReport(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Faults {
		t.Errorf("%s: %s", f.What, f.Why)
	}
	for _, g := range r.Goals {
		if !g.Known && len(r.Skipped) == 0 {
			t.Errorf("%s is not measured", g.Name)
		}
	}
}
