package imports

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// module is the path of the product's module.
const module = "sluice"

// file is one parsed Go file.
type file struct {
	// name is the path from the root of the module, with slashes.
	name   string
	syntax *ast.File
	set    *token.FileSet
}

// dir returns the folder of the file, from the root of the module.
func (f file) dir() string { return path.Dir(f.name) }

// test reports whether the file is test code: a _test.go file, or a file of an
// internal package that serves tests alone.
func (f file) test() bool {
	return strings.HasSuffix(f.name, "_test.go") || testRoom(f.dir())
}

// line returns "name:line" of a node.
func (f file) line(node ast.Node) string {
	return f.name + ":" + strconv.Itoa(f.set.Position(node.Pos()).Line)
}

// lines returns how many lines a node spans.
func (f file) lines(node ast.Node) int {
	return f.set.Position(node.End()).Line - f.set.Position(node.Pos()).Line + 1
}

// imports returns the paths that the file imports, with their specs.
func (f file) imports() map[string]*ast.ImportSpec {
	imports := map[string]*ast.ImportSpec{}
	for _, spec := range f.syntax.Imports {
		if name, err := strconv.Unquote(spec.Path.Value); err == nil {
			imports[name] = spec
		}
	}
	return imports
}

// testRoom reports whether a folder holds helpers for tests.
func testRoom(dir string) bool {
	rest, internal := strings.CutPrefix(dir, "internal/")
	name, _, _ := strings.Cut(rest, "/")
	return internal && (strings.HasSuffix(name, "test") || strings.HasPrefix(name, "test") || strings.HasPrefix(name, "fake"))
}

// within reports whether dir is room or a folder below it.
func within(dir, room string) bool { return dir == room || strings.HasPrefix(dir, room+"/") }

// tree parses every Go file of the module.
func tree(t *testing.T) []file {
	t.Helper()
	root := moduleRoot(t)
	var files []file
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skip(root, name, entry)
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		files = append(files, parse(t, filepath.ToSlash(relative), string(source)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("found %d Go files under %s", len(files), root)
	}
	return files
}

// skip leaves out hidden folders, test data and other modules.
func skip(root, name string, entry fs.DirEntry) error {
	if name == root {
		return nil
	}
	if strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func parse(t *testing.T, name, source string) file {
	t.Helper()
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file{name: name, syntax: syntax, set: set}
}

// moduleRoot returns the folder of go.mod above this test.
func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above this test")
		}
		dir = filepath.Dir(dir)
	}
}
