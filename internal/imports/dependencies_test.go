package imports

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryDirectDependencyHasItsReason(t *testing.T) {
	root := moduleRoot(t)
	modules, reasons := read(t, root, "go.mod"), read(t, root, "docs", "decisions", "001-dependencies.md")
	direct := directModules(modules)
	if len(direct) == 0 {
		t.Fatal("go.mod has no direct dependency")
	}
	for module := range direct {
		if !strings.Contains(reasons, "| `"+module+"` | ") {
			t.Errorf("%s has no reason: add a line to docs/decisions/001-dependencies.md", module)
		}
	}
	for line := range strings.Lines(reasons) {
		cells := strings.Split(line, "`")
		if strings.HasPrefix(line, "| `") && !direct[cells[1]] {
			t.Errorf("%s has a reason but is no direct dependency", cells[1])
		}
	}
}

// directModules returns the modules that go.mod requires and does not mark as
// indirect.
func directModules(text string) map[string]bool {
	direct, required := map[string]bool{}, false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[0] == "require" && fields[1] == "(":
			required = true
		case len(fields) > 0 && fields[0] == ")":
			required = false
		case required && len(fields) >= 2 && !strings.Contains(line, "// indirect"):
			direct[fields[0]] = true
		}
	}
	return direct
}

func read(t *testing.T, elements ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
