package imports

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"
)

// A claim in the documents is shown by a test of that name, in the room that the
// word before it names.
func TestEveryFailureOfTheMeshNamesTestsThatExist(t *testing.T) {
	rooms := map[string]string{"": "mesh", "*consul*": "consul", "*lab*": "lab/proofs"}
	known := map[string]bool{}
	for _, f := range tree(t) {
		for _, declaration := range f.syntax.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && f.test() {
				known[f.dir()+"."+function.Name.Name] = true
			}
		}
	}
	_, table, found := strings.Cut(read(t, moduleRoot(t), "docs", "mesh.md"), "| failure |")
	if !found {
		t.Fatal("docs/mesh.md has no table of failures")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	named := regexp.MustCompile("(\\*[a-z]+\\*)? ?`([A-Za-z]+)`")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(line, "\n |"), " | ")
		if len(cells) < 4 || cells[0] == "" {
			continue
		}
		names := named.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(names) == 0 {
			t.Errorf("docs/mesh.md: no test shows what happens when %s", cells[0])
		}
		for _, name := range names {
			room := name[1]
			if !strings.HasPrefix(name[2], "Test") {
				room = "*lab*" // its proofs are functions that one test calls
			}
			if !known[rooms[room]+"."+name[2]] {
				t.Errorf("docs/mesh.md names %s, which is no test of %s/", name[2], rooms[room])
			}
		}
	}
}
