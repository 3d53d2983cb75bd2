package errorpages_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/gateway/errorpages"
)

// folder makes a folder of files.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, dir, name, text)
	}
	return dir
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) (pages *errorpages.Pages, log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{}
	pages, err := errorpages.Open(errorpages.Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return pages, log
}

// shows wants the page of a status to be a text; "" is the gateway's own.
func shows(t *testing.T, pages *errorpages.Pages, status int, want string) {
	t.Helper()
	body, ok := pages.Render(errorpages.Page{Status: status, Reason: "<b>no</b>", RequestID: "ID"})
	if ok != (want != "") || string(body) != want {
		t.Errorf("%d: %q, %v; want %q", status, body, ok, want)
	}
}

func TestAStatusHasItsOwnPageOrThatOfAllOthers(t *testing.T) {
	pages, _ := open(t, folder(t, map[string]string{
		"503.html":      `{{template "_head.html" .}}{{block "end" .}}busy{{end}}`,
		"403.html":      `{{define "end"}}another{{end}}{{template "_head.html" .}}{{.Reason}}`,
		"error.html":    `{{template "_head.html" .}}other {{.RequestID}}`,
		"_head.html":    `{{.Status}}: `,
		".hidden":       `{{`,
		"_unused.html":  `{{/* nothing */}}`,
		"..data-is-not": `{{`,
	}))
	shows(t, pages, 503, "503: busy")
	shows(t, pages, 403, "403: &lt;b&gt;no&lt;/b&gt;")
	shows(t, pages, 404, "404: other ID")
	shows(t, pages, 302, "")
	shows(t, pages, 600, "")
	if got, want := pages.State().Pages, []string{"403.html", "503.html", "error.html"}; !slices.Equal(got, want) {
		t.Errorf("the pages are %v, want %v", got, want)
	}
	bounded, _ := open(t, folder(t, map[string]string{"503.html": `{{range 40}}{{range 40}}{{range 2}}.{{end}}{{end}}{{end}}`, "_head.html": `{{if .Facts}}{{range .Facts}}{{.Name}}{{else}}{{end}}{{end}}`, "404.html": `{{template "_head.html" .}}{{printf "%04d" .Status}} {{.Reason | print | html}} {{js .Reason}}<a title="{{.Reason}}" id={{if .Hint}}a{{else}}b{{end}}><style>a { color: red }</style>`}))
	shows(t, bounded, 503, strings.Repeat(".", 3200))
	shows(t, bounded, 404, `0404 &lt;b&gt;no&lt;/b&gt; \u003Cb\u003Eno\u003C/b\u003E<a title="&lt;b&gt;no&lt;/b&gt;" id=b><style>a { color: red }</style>`)
	alone, _ := open(t, folder(t, map[string]string{"403.html": "no"}))
	shows(t, alone, 403, "no")
	shows(t, alone, 503, "")
}

func TestAFolderWithAFaultIsRefusedAsAWhole(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"a template that cannot be read":   {"503.html", "{{if}}", "503.html:1"},
		"a shared part that cannot":        {"_head.html", "{{end}}", "_head.html:1"},
		"a field that there is not":        {"503.html", "{{.Password}}", "Password"},
		"one in a branch for facts":        {"503.html", "x{{if .Facts}}{{.Secret}}{{end}}", "Secret"},
		"one in a branch for few statuses": {"error.html", "x{{if eq .Status 418}}{{.Teapot}}{{end}}", "for status 418"},
		"a part that there is not":         {"503.html", `{{template "_foot.html" .}}`, "_foot.html"},
		"what not every page has":          {"503.html", "{{(index .Facts 0).Name}}", "for status 503"},
		"an ambiguous place":               {"503.html", `<a href={{.Reason}}{{if .Hint}}"{{end}}>`, "503.html"},
		"a page without end":               {"503.html", `{{define "a"}}a{{template "a"}}{{end}}{{template "a"}}`, "for status 503"},
		"a page that is too large":         {"503.html", `{{range 300000}}x{{end}}`, "too large"},
		"a loop that prints nothing":       {"503.html", `x{{range 1000000000}}{{end}}`, "503.html for status 503: the page takes too many steps"},
		"one that does something":          {"503.html", `x{{$a := 0}}{{range 1000000000}}{{$a = 1}}{{end}}`, "too many steps"},
		"one in a shared part":             {"503.html", `{{define "a"}}{{range 1000000000}}{{continue}}{{end}}{{end}}x{{template "a"}}`, "too many steps"},
		"loops in each other":              {"503.html", `x{{range 9999}}{{if true}}{{range 9999}}{{end}}{{end}}{{end}}`, "too many steps"},
		"more than a page has":             {"503.html", strings.Repeat("{{range .Facts}}", 40) + strings.Repeat("{{end}}", 40), "40 ranges in each other"},
		"parts that ask for more of them":  {"503.html", `{{define "a"}}{{if .}}{{template "a" (slice . 1)}}{{template "a" (slice . 1)}}{{end}}{{end}}x{{template "a" "` + strings.Repeat("x", 64) + `"}}`, "too many steps"},
		"a text that grows unseen":         {"503.html", `x{{$a := "x"}}{{range 40}}{{$a = print $a $a}}{{end}}`, "too large"},
		"one that grows by escapes":        {"503.html", `x{{$a := "<"}}{{range 40}}{{$a = js $a}}{{end}}`, "too large"},
		"a blank page":                     {"503.html", ` {{if .Facts}}x{{end}} `, "blank"},
		"a script":                         {"503.html", `<SCRIPT>alert(1)</SCRIPT>`, "script"},
		"a status that is no error":        {"200.html", "x", "200.html is no name"},
		"a status that there is not":       {"4o3.html", "x", "4o3.html is no name"},
		"a sign":                           {"+503.html", "x", "no name"},
		"another kind of file":             {"style.css", "x", "style.css is no name"},
		"what is not UTF-8":                {"503.html", "\xff", "not UTF-8"},
		"a file that is too large":         {"503.html", strings.Repeat("x", 64<<10+1), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, map[string]string{"404.html": "fine", c.file: c.text})
			if _, err := errorpages.Open(errorpages.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	for name, make := range map[string]func(dir string) error{
		"no page":   func(string) error { return nil },
		"no folder": os.Remove,
		"a folder":  func(dir string) error { return os.Mkdir(filepath.Join(dir, "503.html"), 0o700) },
		"a link to nowhere": func(dir string) error {
			return os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "503.html"))
		},
	} {
		dir := t.TempDir()
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := errorpages.Open(errorpages.Config{Dir: dir}); err == nil {
			t.Errorf("%s is taken for a folder of pages", name)
		}
	}
}

func TestAFaultLaterKeepsThePagesBeforeUntilItIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := folder(t, map[string]string{"503.html": "first", "404.html": "lost"})
		pages, log := open(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		var err error
		ended := make(chan struct{})
		go func() { defer close(ended); err = pages.Run(ctx) }()
		look := func() {
			timer, stop := context.WithTimeout(ctx, 3*errorpages.DefaultInterval)
			defer stop()
			<-timer.Done()
			synctest.Wait()
		}
		write(t, dir, "503.html", "second{{")
		look()
		shows(t, pages, 503, "first")
		shows(t, pages, 404, "lost")
		if s := pages.State(); !strings.Contains(s.Problem, "503.html:1") || s.Dir != dir {
			t.Errorf("the state is %+v, want the problem", s)
		}
		if n := strings.Count(log.String(), "error pages refused; those before stay"); n != 1 {
			t.Errorf("the fault is logged %d times, want once:\n%s", n, log)
		}
		write(t, dir, "503.html", "third")
		if err := os.Remove(filepath.Join(dir, "404.html")); err != nil {
			t.Fatal(err)
		}
		look()
		shows(t, pages, 503, "third")
		shows(t, pages, 404, "")
		if s := pages.State(); s.Problem != "" {
			t.Errorf("the state is %+v, want no problem", s)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		look()
		shows(t, pages, 503, "third")
		if s := pages.State(); s.Problem == "" {
			t.Error("a folder that is gone is no problem")
		}
		cancel()
		if <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestEachChangeOfTheFolderIsToldOnce(t *testing.T) {
	dir := folder(t, map[string]string{"503.html": "first", "404.html": "lost", "_head.html": "head"})
	var told []errorpages.Change
	pages, err := errorpages.Open(errorpages.Config{Dir: dir, Changed: func(c errorpages.Change) {
		if c.Took <= 0 || c.Took > time.Minute {
			t.Errorf("it took %v", c.Took)
		}
		c.Took = 0
		told = append(told, c)
	}})
	if err != nil {
		t.Fatal(err)
	}
	look := func(want ...errorpages.Change) {
		t.Helper()
		for range 2 {
			_ = pages.Reload()
		}
		if fmt.Sprint(told) != fmt.Sprint(want) {
			t.Errorf("%v is told, want %v", told, want)
		}
		told = nil
	}
	look()
	write(t, dir, "_head.html", "other head")
	write(t, dir, "500.html", "new")
	if err := os.Remove(filepath.Join(dir, "404.html")); err != nil {
		t.Fatal(err)
	}
	look(errorpages.Change{Added: []string{"500.html"}, Removed: []string{"404.html"}, Altered: []string{"_head.html"}})
	write(t, dir, "style.css", "a {}")
	look(errorpages.Change{Problem: errors.New("style.css is no name of a page; want error.html, 400.html to 599.html, or _NAME.html for what pages share")})
	if err := os.Remove(filepath.Join(dir, "style.css")); err != nil {
		t.Fatal(err)
	}
	look(errorpages.Change{})
}

func TestAPageThatFailsMakesWayForTheGatewaysOwn(t *testing.T) {
	pages, log := open(t, folder(t, map[string]string{"503.html": `half{{if eq .RequestID "ID"}}{{index .Facts 7}}{{end}}`}))
	shows(t, pages, 503, "")
	if pages.State().Failed != 1 || !strings.Contains(log.String(), "request=ID") {
		t.Errorf("%+v and the log %q; want one failure", pages.State(), log)
	}
}

func TestChangesAreToldOneAfterTheOtherHoweverManyLook(t *testing.T) {
	dir := folder(t, map[string]string{"503.html": "0"})
	var inside, told atomic.Int64
	pages, err := errorpages.Open(errorpages.Config{Dir: dir, Changed: func(errorpages.Change) {
		if inside.Add(1) > 1 {
			t.Error("a change is told while another one is")
		}
		told.Add(1)
		for range 1000 {
			runtime.Gosched() // time for the others to look
		}
		inside.Add(-1)
	}})
	if err != nil {
		t.Fatal(err)
	}
	var looking sync.WaitGroup
	for i := range 4 {
		looking.Go(func() {
			for n := range 25 {
				text := fmt.Sprint(i, n)
				_ = os.WriteFile(filepath.Join(dir, "."+text), []byte(text), 0o600)
				_ = os.Rename(filepath.Join(dir, "."+text), filepath.Join(dir, "503.html"))
				_ = pages.Reload()
			}
		})
	}
	looking.Wait()
	if told.Load() < 2 {
		t.Errorf("%d changes were told: they were too few to meet", told.Load())
	}
}
