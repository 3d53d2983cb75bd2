package errorpages

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"text/template/parse"
)

const (
	// maxPage bounds a page that is made, and each text that its template makes on the
	// way, in bytes.
	maxPage = 256 << 10
	// maxSteps bounds the parts of templates that one page takes, each round of a range
	// counted anew. It stands for time: a count is the same on a busy machine.
	maxSteps = 50_000
	// maxNested bounds ranges in ranges: html/template looks at the innermost twice for
	// each that is around it, so that every one more doubles the time to load a page.
	maxNested = 4
)

var (
	errTooLarge = errors.New("the page is too large")
	errTooLong  = errors.New("the page takes too many steps")
)

// output is a buffer that takes no more than a page may have. An empty write is a step.
type output struct {
	bytes.Buffer
	steps int
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	if len(p) == 0 {
		o.steps++
	}
	if o.steps > maxSteps {
		return 0, errTooLong
	}
	if o.Len()+len(p) > maxPage {
		return 0, errTooLarge
	}
	return o.Buffer.Write(p)
}

// count makes every template of a page ask the output before each of its parts: a
// template cannot be interrupted, but it ends where it cannot write. Before it is
// called, nothing may have been made of the page.
func count(page *template.Template) error {
	for _, t := range page.Templates() {
		if t.Tree == nil {
			continue
		}
		if nested := steps(t.Tree.Root); nested > maxNested {
			return fmt.Errorf("%s has %d ranges in each other, and %d are allowed", t.Name(), nested, maxNested)
		}
	}
	return nil
}

// steps puts an empty text before each part of a list that is none itself, and returns
// how many ranges are in each other.
func steps(list *parse.ListNode) (nested int) {
	if list == nil {
		return 0
	}
	nodes := make([]parse.Node, 0, 2*len(list.Nodes))
	for _, node := range list.Nodes {
		if node.Type() != parse.NodeText {
			nodes = append(nodes, &parse.TextNode{NodeType: parse.NodeText, Pos: node.Position()})
		}
		nodes = append(nodes, node)
		switch n := node.(type) {
		case *parse.IfNode:
			nested = max(nested, steps(n.List), steps(n.ElseList))
		case *parse.WithNode:
			nested = max(nested, steps(n.List), steps(n.ElseList))
		case *parse.RangeNode:
			nested = max(nested, 1+steps(n.List), steps(n.ElseList))
		}
	}
	if len(nodes) == 0 {
		// The body of a range that does nothing is a step as well.
		nodes = append(nodes, &parse.TextNode{NodeType: parse.NodeText, Pos: list.Pos})
	}
	list.Nodes = nodes
	return nested
}

// functions are those of html/template that make texts of others, held to the size of a
// page: a text that grows is never seen by the output.
func functions() template.FuncMap {
	held := func(text string) (string, error) {
		if len(text) > maxPage {
			return "", errTooLarge
		}
		return text, nil
	}
	return template.FuncMap{
		"html":     func(args ...any) (string, error) { return held(template.HTMLEscaper(args...)) },
		"js":       func(args ...any) (string, error) { return held(template.JSEscaper(args...)) },
		"print":    func(args ...any) (string, error) { return held(fmt.Sprint(args...)) },
		"printf":   func(format string, args ...any) (string, error) { return held(fmt.Sprintf(format, args...)) },
		"println":  func(args ...any) (string, error) { return held(fmt.Sprintln(args...)) },
		"urlquery": func(args ...any) (string, error) { return held(template.URLQueryEscaper(args...)) },
	}
}
