// Package markdown turns what people write into HTML that is safe to show. It is
// pure: text in, HTML out.
package markdown

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"html/template"
	"strings"
	"unicode/utf8"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// topHeading is the level of a text's highest heading, "#" or lower: the page's own
// headline is above it, and no level is left out between the two.
const topHeading = 2

// Renderer turns Markdown into HTML. It is safe for concurrent use.
type Renderer struct {
	markdown goldmark.Markdown
	policy   *bluemonday.Policy
	memory   memory
}

// New returns a Renderer of CommonMark with tables, strikethrough and links that
// are found in the text.
func New() *Renderer {
	return &Renderer{
		markdown: goldmark.New(goldmark.WithExtensions(extension.Table, extension.Strikethrough, extension.Linkify)),
		policy:   policy(),
	}
}

// policy names what HTML may come out. There are no pictures, because one from
// another site tells that site who reads.
func policy() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "em", "strong", "del", "code", "pre", "blockquote", "h2", "h3", "h4", "h5", "h6")
	p.AllowLists()
	p.AllowTables()
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("http", "https", "mailto")
	p.AllowRelativeURLs(true)
	p.RequireParseableURLs(true)
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnFullyQualifiedLinks(true)
	return p
}

// Render returns source as sanitised HTML. HTML in the source is left out. What was
// made of the newest texts is remembered, in 8 MiB at most.
func (r *Renderer) Render(source string) (template.HTML, error) {
	q := question{text: sha256.Sum256([]byte(source))}
	if made, ok := r.memory.get(q); ok {
		return template.HTML(made), nil
	}
	html, err := r.render(source)
	if err == nil {
		r.memory.put(q, string(html))
	}
	return html, err
}

func (r *Renderer) render(source string) (template.HTML, error) {
	raw := []byte(strings.ToValidUTF8(source, "\uFFFD"))
	document := r.markdown.Parser().Parse(text.NewReader(raw))
	lowerHeadings(document)
	var out bytes.Buffer
	if err := r.markdown.Renderer().Render(&out, raw, document); err != nil {
		return "", fmt.Errorf("render markdown: %w", err)
	}
	return template.HTML(r.policy.SanitizeBytes(out.Bytes())), nil
}

func lowerHeadings(document ast.Node) {
	var headings []*ast.Heading
	highest := 6
	_ = ast.Walk(document, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if heading, ok := node.(*ast.Heading); ok && entering {
			headings = append(headings, heading)
			highest = min(highest, heading.Level)
		}
		return ast.WalkContinue, nil
	})
	for _, heading := range headings {
		heading.Level = min(6, heading.Level-highest+topHeading)
	}
}

// Excerpt returns the first words of source without headings and markup: at most
// limit characters, with an ellipsis if there is more. It remembers as Render does.
func (r *Renderer) Excerpt(source string, limit int) string {
	q := question{sha256.Sum256([]byte(source)), limit}
	made, ok := r.memory.get(q)
	if !ok {
		made = r.excerpt(source, limit)
		r.memory.put(q, made)
	}
	return made
}

func (r *Renderer) excerpt(source string, limit int) string {
	raw := []byte(source)
	var out strings.Builder
	_ = ast.Walk(r.markdown.Parser().Parse(text.NewReader(raw)), func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		switch node := node.(type) {
		case *ast.Heading:
			return ast.WalkSkipChildren, nil
		case *ast.Text:
			if entering {
				out.Write(node.Segment.Value(raw))
				if node.SoftLineBreak() || node.HardLineBreak() {
					out.WriteByte(' ')
				}
			}
		case *ast.String:
			if entering {
				out.Write(node.Value)
			}
		default:
			if !entering && node.Type() == ast.TypeBlock {
				out.WriteByte(' ')
			}
		}
		if out.Len() > 4*limit+utf8.UTFMax {
			return ast.WalkStop, nil
		}
		return ast.WalkContinue, nil
	})
	words := strings.Join(strings.Fields(out.String()), " ")
	if utf8.RuneCountInString(words) <= limit {
		return words
	}
	cut := string([]rune(words)[:limit])
	if space := strings.LastIndexByte(cut, ' '); space > len(cut)/2 {
		cut = cut[:space]
	}
	return strings.TrimRight(cut, " ,.;:") + "…"
}
