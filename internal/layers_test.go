// Package internal_test holds the rules on who may import what, and on what
// the deterministic layers must not touch.
package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Layers from bottom to top: a package may import its own layer and those
// before it.
var layers = []string{"base", "format", "storage", "core", "host", "api", "sim", "edge"}

// More than "only downwards": who may not see whom although it lies below.
var walls = []struct{ from, to, why string }{
	{"core", "storage", "a core does no I/O"},
	{"sim", "edge", "a simulation replaces everything in edge"},
	{"edge", "sim", "production code does not simulate"},
}

// Modules that only some packages may import.
var confined = []struct {
	module string
	to     []string
	why    string
}{
	{"go.etcd.io/raft/v3", []string{"host/raftlog", "host/quorum", "sim"}, "Raft appears as host/quorum to everyone else"},
	{"github.com/twmb/franz-go/pkg/kmsg", []string{"format", "api", "sim", "edge"}, "cores and hosts speak their own structs"},
	{"github.com/twmb/franz-go/pkg/kgo", []string{}, "a client has no place in the broker"},
	{"github.com/spf13/cobra", []string{}, "the command line is cmd/chronik's"},
	{"github.com/prometheus/client_golang", []string{"edge"}, "hosts return what happened, edge counts it"},
}

// What the deterministic layers must not import, and may import but not call.
var (
	deterministic = []string{"core", "host", "format"}
	noImport      = map[string]string{
		"os": "I/O", "net": "I/O", "net/http": "I/O", "syscall": "I/O", "golang.org/x/sys/unix": "I/O", "context": "time belongs to edge",
		"math/rand": "global randomness", "crypto/rand": "global randomness",
	}
	noCall = map[string][]string{
		"time":         {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
		"math/rand/v2": {"Int", "IntN", "Int32", "Int32N", "Int64", "Int64N", "Uint32", "Uint32N", "Uint64", "Uint64N", "Float32", "Float64", "NormFloat64", "ExpFloat64", "Perm", "Shuffle", "N", "UintN", "Uint"},
	}
	// Cores have no locks, channels or atomics either.
	noImportCore = map[string]string{"sync": "a core has one owner", "sync/atomic": "a core has one owner", "log/slog": "a core returns what happened", "io/fs": "I/O"}
)

// Exceptions, each with its reason.
var mayImport = map[string]bool{
	"core/metadata sync": true, // an Image is read by every goroutine; its sorted lists are made once, when first asked for
}

type source struct {
	pkg  string // "core/replica"
	file string
	ast  *ast.File
}

func (s source) layer() string { return strings.SplitN(s.pkg, "/", 2)[0] }

func load(t *testing.T) (*token.FileSet, []source) {
	t.Helper()
	fset := token.NewFileSet()
	var out []source
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(name, "/gen/") || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		if pkg := filepath.ToSlash(filepath.Dir(name)); pkg != "." {
			out = append(out, source{pkg, name, f})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatal("found no source files")
	}
	return fset, out
}

func within(pkg string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return pkg == f || strings.HasPrefix(pkg, f+"/") })
}

func TestImportsPointDown(t *testing.T) {
	_, sources := load(t)
	for _, s := range sources {
		from := slices.Index(layers, s.layer())
		if from < 0 {
			t.Errorf("%s: layer %q is not one of %v", s.file, s.layer(), layers)
			continue
		}
		for _, imp := range s.ast.Imports {
			name, _ := strconv.Unquote(imp.Path.Value)
			if rest, ok := strings.CutPrefix(name, "chronik/internal/"); ok {
				layer := strings.SplitN(rest, "/", 2)[0]
				if to := slices.Index(layers, layer); to > from {
					t.Errorf("%s imports %s: %s may not know %s above it", s.file, name, s.layer(), layer)
				}
				for _, w := range walls {
					if s.layer() == w.from && layer == w.to {
						t.Errorf("%s imports %s: %s", s.file, name, w.why)
					}
				}
			}
			if strings.HasPrefix(name, "chronik/cmd") {
				t.Errorf("%s imports %s: commands are on top", s.file, name)
			}
			for _, c := range confined {
				if (name == c.module || strings.HasPrefix(name, c.module+"/")) && !within(s.pkg, c.to) {
					t.Errorf("%s imports %s: %s", s.file, name, c.why)
				}
			}
		}
	}
}

func TestDeterministicLayersTouchNoClockGoroutineOrChance(t *testing.T) {
	fset, sources := load(t)
	for _, s := range sources {
		if !slices.Contains(deterministic, s.layer()) {
			continue
		}
		at := func(n ast.Node) string { return fset.Position(n.Pos()).String() }
		names := map[string]string{} // local name of an import -> its path
		for _, imp := range s.ast.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			local := path.Base(p)
			if local == "v2" {
				local = path.Base(path.Dir(p))
			}
			if imp.Name != nil {
				local = imp.Name.Name
			}
			names[local] = p
			if why, bad := noImport[p]; bad {
				t.Errorf("%s imports %q: %s", at(imp), p, why)
			}
			if why, bad := noImportCore[p]; bad && s.layer() == "core" && !mayImport[s.pkg+" "+p] {
				t.Errorf("%s imports %q: %s", at(imp), p, why)
			}
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: go statement: only edge starts goroutines", at(n))
			case *ast.SelectStmt:
				t.Errorf("%s: select: only edge waits", at(n))
			case *ast.ChanType:
				if s.layer() == "core" {
					t.Errorf("%s: channel in a core", at(n))
				}
			case *ast.SelectorExpr:
				if id, ok := n.X.(*ast.Ident); ok && slices.Contains(noCall[names[id.Name]], n.Sel.Name) {
					t.Errorf("%s: %s.%s: time and randomness are arguments", at(n), id.Name, n.Sel.Name)
				}
			}
			return true
		})
	}
}

var banned = []string{"util", "utils", "common", "types", "manager", "helper", "helpers", "impl", "misc"}

func TestNamesSayWhatThingsAre(t *testing.T) {
	_, sources := load(t)
	documented := map[string]bool{}
	for _, s := range sources {
		base := strings.TrimSuffix(path.Base(filepath.ToSlash(s.file)), ".go")
		if slices.Contains(banned, base) || slices.Contains(banned, path.Base(s.pkg)) {
			t.Errorf("%s: the name does not say what it is", s.file)
		}
		documented[s.pkg] = documented[s.pkg] || s.ast.Doc != nil
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

func TestGoFilesAreWhereTheTreeSaysTheyAre(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(layers, e.Name()) {
			t.Errorf("internal/%s is not a layer", e.Name())
		}
	}
}
