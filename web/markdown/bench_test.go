package markdown_test

import (
	"strconv"
	"strings"
	"testing"

	"sluice/web/markdown"
)

// BenchmarkEntry measures what a page makes of one entry: its HTML, or the excerpt
// that a list shows, of a new text and of one that was seen. The text is about 1 kB, as entries are, or 30.
func BenchmarkEntry(b *testing.B) {
	paragraph := "A deny that only stops the *next* connection is a [promise](https://example.org). This one is kept for those that are **already open**.\n\n- one\n- two\n\n"
	for _, size := range []struct {
		name  string
		times int
	}{{"1kB", 7}, {"30kB", 200}} {
		text := "## Head\n\n" + strings.Repeat(paragraph, size.times)
		r := markdown.New()
		number := 0
		fresh := func() string { number++; return text + strconv.Itoa(number) }
		b.Run("render-"+size.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Render(fresh()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("render-again-"+size.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Render(text); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("excerpt-again-"+size.name, func(b *testing.B) {
			for b.Loop() {
				r.Excerpt(text, 280)
			}
		})
		b.Run("excerpt-"+size.name, func(b *testing.B) {
			for b.Loop() {
				r.Excerpt(fresh(), 280)
			}
		})
	}
}
