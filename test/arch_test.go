// Package test holds what concerns the whole: the shape of the tree here, and
// the end-to-end tests of the built binary.
package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/snapproxy/snapproxy"

// everything is the rule of a package that may import all of ours.
var everything = []string{"*"}

// ours says which packages of ours each package may import (DESIGN §3). A
// package that is not here must not exist.
var ours = map[string][]string{
	".":              everything,
	"cmd/snapproxy":  everything,
	"httpconnect":    {},
	"netstack":       {},
	"scion":          {},
	"scion/endhost":  {"scion"},
	"socks":          {},
	"tunnel":         {"tunnel/snaptun"},
	"tunnel/control": {"tunnel/snaptun"},
	"tunnel/snaptun": {},
	"test":           {},
	"test/netsim":    {},
	"examples/dial":  everything,
}

// foreign names what only some packages may import.
var foreign = []struct {
	path    string   // an import path, or with ... at its end a prefix
	only    []string // packages that may; nil: none
	because string
}{
	{"gvisor.dev/...", []string{"netstack"}, "netstack is the only importer of gVisor"},
	{"github.com/spf13/...", []string{"cmd/snapproxy"}, "flags belong to the command"},
	{"flag", []string{"cmd/snapproxy", "examples"}, "flags belong to the command"},
	{"log", []string{"examples"}, "loggers come from the configuration"},
	{"github.com/scionproto/scion/...", nil, "the reference implementation is the oracle of tests: it links gRPC, ANTLR and Prometheus"},
	{"text/template", nil, "it calls methods by name, so that the linker keeps every one"},
}

// pure names what the core of the tunnel does without: I/O, locks and clocks.
var pure = []string{"net", "os", "context", "sync", "log/slog"}

// clocks are the functions of package time that read or wait for the clock.
var clocks = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}

// maxLines is STYLE's limit for a file.
const maxLines = 600

// A source is a parsed file.
type source struct {
	dir, name string // slash-separated, from the root of the module
	file      *ast.File
	lines     int
}

func (s source) test() bool { return strings.HasSuffix(s.name, "_test.go") }

func TestEveryPackageIsInTheDesign(t *testing.T) {
	dirs := map[string]bool{}
	for _, s := range sources(t) {
		dirs[s.dir] = true
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if _, ok := ours[dir]; !ok && !strings.HasPrefix(dir, "test/") {
			t.Errorf("package %s is not in the map of packages: which present package could not carry it?", dir)
		}
	}
}

func TestImportsPointOneWay(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() || s.dir == "test" || strings.HasPrefix(s.dir, "test/") {
			continue
		}
		allowed := ours[s.dir]
		for _, imported := range imports(t, s) {
			if imported != module && !strings.HasPrefix(imported, module+"/") {
				continue
			}
			of := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
			if of == "test" || strings.HasPrefix(of, "test/") {
				t.Errorf("%s imports %s, which is for tests", s.name, of)
			} else if !slices.Equal(allowed, everything) && !slices.Contains(allowed, of) {
				t.Errorf("%s imports %s; package %s may import %v of ours", s.name, imported, s.dir, allowed)
			}
		}
	}
}

func TestForeignImportsStayWhereTheyBelong(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() || strings.HasPrefix(s.dir, "test/") {
			continue // tests take their oracles where they are
		}
		for _, imported := range imports(t, s) {
			for _, rule := range foreign {
				if matches(rule.path, imported) && !slices.ContainsFunc(rule.only, func(d string) bool { return within(s.dir, d) }) {
					t.Errorf("%s imports %s: %s", s.name, imported, rule.because)
				}
			}
			if s.dir == "tunnel/snaptun" && slices.Contains(pure, imported) {
				t.Errorf("%s imports %s: the core is pure", s.name, imported)
			}
		}
	}
}

func TestCoreReadsNoClock(t *testing.T) {
	for _, s := range sources(t) {
		if s.dir != "tunnel/snaptun" || s.test() {
			continue
		}
		for _, sel := range selectors(s, "time") {
			if slices.Contains(clocks, sel) {
				t.Errorf("%s uses time.%s: time comes in as now", s.name, sel)
			}
		}
	}
}

// TestOnlyTheCommandPrints also holds that nothing else looks at the arguments,
// the environment or the streams of the process, ends it, or logs to a global
// logger.
func TestOnlyTheCommandPrints(t *testing.T) {
	forbidden := map[string][]string{
		"fmt":      {"Print", "Printf", "Println"},
		"os":       {"Args", "Environ", "Exit", "Getenv", "LookupEnv", "Setenv", "Stderr", "Stdin", "Stdout", "Unsetenv"},
		"log/slog": {"Debug", "DebugContext", "Default", "Error", "ErrorContext", "Info", "InfoContext", "Log", "LogAttrs", "SetDefault", "Warn", "WarnContext"},
		"os/exec":  {"Command", "CommandContext"},
	}
	for _, s := range sources(t) {
		if s.test() || within(s.dir, "cmd") || within(s.dir, "examples") || within(s.dir, "test") {
			continue
		}
		for pkg, names := range forbidden {
			for _, sel := range selectors(s, pkg) {
				if slices.Contains(names, sel) {
					t.Errorf("%s uses %s.%s: that belongs to cmd/snapproxy", s.name, pkg, sel)
				}
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if id, ok := call.Fun.(*ast.Ident); ok && (id.Name == "print" || id.Name == "println") {
					t.Errorf("%s calls %s", s.name, id.Name)
				}
			}
			return true
		})
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if s.lines > maxLines {
			t.Errorf("%s has %d lines, more than %d", s.name, s.lines, maxLines)
		}
	}
}

func TestPackagesAreNouns(t *testing.T) {
	empty := []string{"base", "common", "data", "helper", "helpers", "impl", "info", "internal", "manager", "misc", "types", "util", "utils", "wrapper"}
	for _, s := range sources(t) {
		for _, part := range append(strings.Split(s.dir, "/"), strings.TrimSuffix(strings.TrimSuffix(path.Base(s.name), ".go"), "_test")) {
			if slices.Contains(empty, part) {
				t.Errorf("%s: %q says nothing about what it holds", s.name, part)
			}
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() || s.file.Name.Name == "main" {
			continue
		}
		for _, decl := range s.file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil && !satisfies(d.Name.Name) {
					t.Errorf("%s: %s has no comment", s.name, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if ts, ok := spec.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: %s has no comment", s.name, ts.Name.Name)
					}
				}
			}
		}
	}
}

// satisfies reports whether a method of this name only satisfies an interface
// of the standard library, whose documentation holds.
func satisfies(method string) bool {
	return slices.Contains([]string{"Error", "Is", "Unwrap", "String", "Temporary", "Timeout"}, method)
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t.IsExported()
		default:
			return true
		}
	}
}

// sources parses the whole module, other modules below it left out.
func sources(t *testing.T) []source {
	t.Helper()
	root := ".."
	var all []source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel == "." {
				return nil
			}
			if strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") || d.Name() == "testdata" || d.Name() == "vendor" || isModule(name) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{path.Dir(rel), rel, file, set.File(file.FileStart).LineCount()})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func isModule(dir string) bool {
	found, err := filepath.Glob(filepath.Join(dir, "go.mod"))
	return err == nil && len(found) > 0
}

func imports(t *testing.T, s source) []string {
	t.Helper()
	var paths []string
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		paths = append(paths, p)
	}
	return paths
}

// selectors returns the names that a file uses of an imported package.
func selectors(s source, pkg string) []string {
	local := ""
	for _, spec := range s.file.Imports {
		if spec.Path.Value == strconv.Quote(pkg) {
			local = path.Base(pkg)
			if spec.Name != nil {
				local = spec.Name.Name
			}
		}
	}
	if local == "" {
		return nil
	}
	var names []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == local {
				names = append(names, sel.Sel.Name)
			}
		}
		return true
	})
	return names
}

func matches(rule, imported string) bool {
	prefix, ok := strings.CutSuffix(rule, "...")
	return imported == rule || ok && strings.HasPrefix(imported, prefix)
}

// within reports whether dir is top or below it.
func within(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }
