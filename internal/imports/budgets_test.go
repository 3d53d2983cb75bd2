package imports

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// The budgets for code that is not test code.
const (
	maxFunctionLines = 60
	maxFileLines     = 400
	maxParameters    = 5
)

// constants are the package variables that nothing writes to, by file and name,
// each with the reason why it cannot be a constant.
func constants() map[string]string {
	return map[string]string{
		"cmd/sluice/main.go:version": "the linker sets it (-ldflags -X), which it can do to variables alone",
	}
}

func TestFunctionsAndFilesKeepWithinTheirBudgets(t *testing.T) {
	report(t, checkBudgets(tree(t)))
}

func TestNoPackageHasMutableStateOrWorkAtStart(t *testing.T) {
	files := tree(t)
	report(t, checkState(files, constants()))
	known := map[string]bool{}
	for _, f := range files {
		for _, v := range variables(f) {
			known[f.name+":"+v.name.Name] = true
		}
	}
	for name := range constants() {
		if !known[name] {
			t.Errorf("%s is listed as a constant but does not exist: remove it from the list", name)
		}
	}
}

// TestEachBudgetGoesRed holds the budgets themselves to their word.
func TestEachBudgetGoesRed(t *testing.T) {
	state := func(files []file) []string {
		return checkState(files, map[string]string{"web/a.go:listed": "a reason"})
	}
	cases := []struct {
		name, file, source string
		check              func([]file) []string
		want               string
	}{
		{"function within", "web/a.go", "func f() {" + strings.Repeat("\n", 59) + "}", checkBudgets, ""},
		{"function beyond", "web/a.go", "func f() {" + strings.Repeat("\n", 60) + "}", checkBudgets, "web/a.go:2: function f has 61 lines"},
		{"function in a test", "web/a_test.go", "func f() {" + strings.Repeat("\n", 60) + "}", checkBudgets, ""},
		{"file within", "web/a.go", strings.Repeat("\n", 399), checkBudgets, ""},
		{"file beyond", "web/a.go", strings.Repeat("\n", 400), checkBudgets, "web/a.go: has 401 lines"},
		{"five parameters", "web/a.go", "func f(a, b, c int, d, e string) {}", checkBudgets, ""},
		{"six parameters", "web/a.go", "func f(a, b, c int, d, e string, g bool) {}", checkBudgets, "web/a.go:2: function f has 6 parameters"},
		{"init", "web/a.go", "func init() {}", state, "web/a.go:2: init"},
		{"method called init", "web/a.go", "func (a A) init() {}", state, ""},
		{"variable", "web/a.go", "var cache = map[string]int{}", state, "web/a.go:2: package variable cache"},
		{"variable without a value", "web/a.go", "var count int", state, "web/a.go:2: package variable count"},
		{"variable in a function", "web/a.go", "func f() { var count int }", state, ""},
		{"sentinel", "web/a.go", `var ErrGone = errors.New("gone")`, state, ""},
		{"pattern", "web/a.go", "var word = regexp.MustCompile(`a`)", state, ""},
		{"interface check", "web/a.go", "var _ I = (*T)(nil)", state, ""},
		{"embedded file", "web/a.go", "//go:embed x\nvar page string", state, ""},
		{"embedded file in a group", "web/a.go", "var (\n//go:embed x\npage string\n)", state, ""},
		{"listed", "web/a.go", "var listed = f()", state, ""},
		{"version", "web/a.go", "var a, ErrB = 1, errors.New(``)", state, "web/a.go:2: package variable a"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			problems := c.check([]file{parse(t, c.file, "package p\n"+c.source)})
			switch {
			case c.want == "" && len(problems) > 0:
				t.Errorf("complains: %q", problems)
			case c.want != "" && (len(problems) != 1 || !strings.HasPrefix(problems[0], c.want)):
				t.Errorf("got %q, want %q", problems, c.want)
			}
		})
	}
}

// checkBudgets returns one line per function or file that is too large.
func checkBudgets(files []file) []string {
	var problems []string
	for _, f := range files {
		if f.test() || ast.IsGenerated(f.syntax) {
			continue
		}
		if n := f.set.File(f.syntax.FileStart).LineCount(); n > maxFileLines {
			problems = append(problems, fmt.Sprintf("%s: has %d lines, and the budget is %d", f.name, n, maxFileLines))
		}
		for _, declaration := range f.syntax.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := f.lines(function); n > maxFunctionLines {
				problems = append(problems, fmt.Sprintf("%s: function %s has %d lines, and the budget is %d",
					f.line(function), function.Name.Name, n, maxFunctionLines))
			}
			if n := function.Type.Params.NumFields(); n > maxParameters {
				problems = append(problems, fmt.Sprintf("%s: function %s has %d parameters, and the budget is %d; make a Config",
					f.line(function), function.Name.Name, n, maxParameters))
			}
		}
	}
	return problems
}

// checkState returns one line per init function and per package variable that
// is neither a constant by its form nor listed.
func checkState(files []file, listed map[string]string) []string {
	var problems []string
	for _, f := range files {
		if f.test() {
			continue
		}
		for _, declaration := range f.syntax.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil && function.Name.Name == "init" {
				problems = append(problems, f.line(function)+": init runs before anybody can give it anything; call a constructor")
			}
		}
		for _, v := range variables(f) {
			if _, ok := listed[f.name+":"+v.name.Name]; ok || v.constant() {
				continue
			}
			problems = append(problems, f.line(v.name)+": package variable "+v.name.Name+
				" is state that nobody owns; make it a constant, a function or a field, or list it with its reason")
		}
	}
	return problems
}

// variable is one package variable.
type variable struct {
	name     *ast.Ident
	value    ast.Expr // nil without one
	embedded bool
}

// constant reports whether the form of the declaration says that nothing writes
// to the variable: a check of an interface, an error to compare with, a compiled
// pattern, an embedded file.
func (v variable) constant() bool {
	if v.name.Name == "_" || v.embedded {
		return true
	}
	call, ok := v.value.(*ast.CallExpr)
	if !ok {
		return false
	}
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := function.X.(*ast.Ident)
	return ok && (pkg.Name == "errors" && function.Sel.Name == "New" || pkg.Name == "regexp" && function.Sel.Name == "MustCompile")
}

// variables returns the package variables of a file.
func variables(f file) []variable {
	var found []variable
	for _, declaration := range f.syntax.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}
		for _, spec := range group.Specs {
			values := spec.(*ast.ValueSpec)
			for i, name := range values.Names {
				v := variable{name: name, embedded: embeds(values.Doc) || embeds(group.Doc)}
				if i < len(values.Values) {
					v.value = values.Values[i]
				}
				found = append(found, v)
			}
		}
	}
	return found
}

func embeds(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, comment := range doc.List {
		if strings.HasPrefix(comment.Text, "//go:embed ") {
			return true
		}
	}
	return false
}
