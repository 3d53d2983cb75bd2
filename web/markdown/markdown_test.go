package markdown_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"sluice/web/markdown"
)

func TestWhatPeopleWriteIsRenderedAndWhatHarmsIsNot(t *testing.T) {
	tests := []struct{ name, source, want, not string }{
		{"emphasis", "a *b* **c** ~~d~~", "<em>b</em> <strong>c</strong> <del>d</del>", ""},
		{"a heading is below the headline", "# top\n\n###### deep", "<h2>top</h2>", "<h1"},
		{"no level is left out below the headline", "## top\n\n### below", "<h2>top</h2>\n<h3>below</h3>", "<h4"},
		{"a table", "|a|b|\n|-|-|\n|1|2|", "<td>1</td>", ""},
		{"code is text", "`<script>alert(1)</script>`", "&lt;script&gt;", "<script"},
		{"a script", "before\n\n<script>alert(1)</script>\n\nafter", "after", "script"},
		{"an event handler", `<b onmouseover="alert(1)">x</b>`, "x", "onmouseover"},
		{"a frame", `<iframe src="https://evil.example"></iframe>`, "", "iframe"},
		{"a script link", "[x](javascript:alert(1))", "x", "javascript"},
		{"a script link in disguise", "[x](JaVaScRiPt&colon;alert(1))", "x", "<a href=\"J"},
		{"a data link", "[x](data:text/html;base64,PHNjcmlwdD4=)", "x", "data:"},
		{"a picture of another site", "![x](https://evil.example/x.png)", "", "<img"},
		{"a link out", "[x](https://example.org)", `rel="nofollow noreferrer"`, ""},
		{"a style", `<p style="position:fixed">x</p>`, "", "style"},
		{"not UTF-8", "a\xffb", "a", "\xff"},
		{"a NUL", "a\x00b", "a", "\x00"},
	}
	r := markdown.New()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := r.Render(test.source)
			if err != nil || !strings.Contains(string(got), test.want) || test.not != "" && strings.Contains(string(got), test.not) {
				t.Errorf("%q, %v; want %q and not %q", got, err, test.want, test.not)
			}
		})
	}
}

func TestExcerptIsPlainAndEndsAtAWord(t *testing.T) {
	r := markdown.New()
	if got := r.Excerpt("# Head\n\nSome *words* with [a link](https://example.org)\nand more.", 200); got != "Some words with a link and more." {
		t.Errorf("%q", got)
	}
	got := r.Excerpt(strings.Repeat("wörter sind länger, ", 1000), 50)
	if utf8.RuneCountInString(got) > 51 || !strings.HasSuffix(got, "…") || strings.HasSuffix(got, " …") {
		t.Errorf("%q", got)
	}
}

func FuzzNothingDangerousComesOut(f *testing.F) {
	for _, seed := range []string{"<script>", "[a](javascript:x)", "<img src=x onerror=y>", "![](x)", "<a href='vbscript:x'>"} {
		f.Add(seed)
	}
	r := markdown.New()
	f.Fuzz(func(t *testing.T, source string) {
		got, err := r.Render(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"<script", "<img", "<iframe", `href="javascript`, `href="data:`, `href="vbscript`} {
			if strings.Contains(strings.ToLower(string(got)), bad) {
				t.Fatalf("%q gave %q", source, got)
			}
		}
	})
}
