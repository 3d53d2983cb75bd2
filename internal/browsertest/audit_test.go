package browsertest

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// goodPage breaks nothing.
const goodPage = `<!doctype html><html lang="en"><title>Good</title>
<style>body{margin:0;background:#fff;color:#222}.skip{position:absolute;left:-99rem}.skip:focus{left:9px;top:9px}input,button{border:2px solid #444;background:#fff;min-height:30px}
:focus-visible{outline:3px solid #0b5a8f}</style>
<body><a class="skip" href="#main">Skip</a><header>Top</header><main id="main"><h1>One</h1><p>Words with <a href="#x">a link</a> within.</p>
<label for="a">Name</label><input id="a" name="a"><button>Go</button></main><footer>End</footer>`

// write puts a page in the place of the one that is shown.
func (b *Tab) write(page string) {
	b.Helper()
	Ask[bool](b, "(document.open(), document.write("+strconv.Quote(page)+"), document.close(), true)")
}

// TestEachCheckOfAPageGoesRed changes one thing of a page that is good, and names
// the success criterion that must then be reported.
func TestEachCheckOfAPageGoesRed(t *testing.T) {
	tab := Start(t, 2*time.Minute)
	tab.On(Screen{Width: 800, Height: 600, Scheme: "light"})
	for _, c := range []struct{ criterion, old, now string }{
		{"", "Words", "Words"},
		{"3.1.1", ` lang="en"`, ""},
		{"2.4.2", "<title>Good</title>", "<title> </title>"},
		{"1.3.1", "<h1>One</h1>", "<h1>One</h1><h1>Two</h1>"},
		{"1.3.1", "<h1>One</h1>", "<h1>One</h1><h3>Three</h3>"},
		{"1.3.1", "<footer>End</footer>", ""},
		{"1.3.1", "Top", "Top<nav>Here</nav>"},
		{"1.3.1", "<p>", `<p id="a">`},
		{"1.3.1", "<p>", "<table><tr><th>a</th><td>b</td></tr></table><p>"},
		{"2.4.1", `href="#main"`, `href="#nowhere"`},
		{"3.3.2", `for="a"`, `for="b"`},
		{"3.3.1", `name="a"`, `name="a" aria-invalid="true"`},
		{"4.1.2", "<button>Go</button>", "<button></button>"},
		{"4.1.2", "<p>", `<pre aria-label="Their text">x</pre><p>`},
		{"4.1.3", "<p>", `<div class="problem">No</div><p>`},
		{"4.1.3", `name="a"`, `name="a" aria-invalid="true" aria-describedby="main"`},
		{"4.1.3", "<p>", `<div data-stream="/x">Now</div><p>`},
		{"2.4.3", `name="a"`, `name="a" tabindex="3"`},
		{"1.4.3", "color:#222", "color:#999"},
		{"1.4.11", "2px solid #444", "2px solid #ddd"},
		{"1.4.1", "</style>", "p a{text-decoration:none}</style>"},
		{"2.5.8", "min-height:30px", "height:12px;padding:0"},
		{"2.1.1", "<p>", `<div style="overflow:auto;height:9px">a<br>b<br>c</div><p>`},
		{"2.3.3", "</style>", "p{transition:color 1s}</style>"},
	} {
		page := strings.Replace(goodPage, c.old, c.now, 1)
		if c.criterion != "" && page == goodPage {
			t.Fatalf("%s is not changed by %q", c.criterion, c.now)
		}
		tab.write(page)
		wrongs := Ask[[]string](tab, auditJS)
		switch {
		case c.criterion == "" && len(wrongs) > 0:
			t.Errorf("a good page is reported: %q", wrongs)
		case c.criterion != "" && !slices.ContainsFunc(wrongs, func(w string) bool { return strings.HasPrefix(w, c.criterion+":") }):
			t.Errorf("%s is not reported for %q: %q", c.criterion, c.now, wrongs)
		}
	}
	t.Run("a focus that is not seen", func(t *testing.T) { reportsAFocusThatIsNotSeen(t, tab) })
}

// reportsAFocusThatIsNotSeen walks one page well and one badly.
func reportsAFocusThatIsNotSeen(t *testing.T, tab *Tab) {
	for _, c := range []struct{ criterion, outline string }{{"", "outline:3px solid #0b5a8f"}, {"2.4.7", "outline:none"}, {"2.4.13", "outline:3px solid #eee"}} {
		tab.write(strings.Replace(goodPage, "outline:3px solid #0b5a8f", c.outline, 1))
		heard := &hearing{TB: t}
		tab.For(heard).KeyboardWalk("page")
		said := strings.Join(heard.said, "\n")
		if c.criterion == "" && said != "" || c.criterion != "" && !strings.Contains(said, c.criterion) {
			t.Errorf("with %s the walk says: %s", c.outline, said)
		}
	}
}
