package browsertest

import (
	_ "embed" // the checks that run in the page
	"strings"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

//go:embed audit.js
var auditJS string

//go:embed focus.js
var focusJS string

// mostStops bounds a walk through a page with the tab key.
const mostStops = 200

// spaced is the text spacing that a page must bear (1.4.12), as a sheet that the
// page's policy does not forbid.
const spaced = `(() => { const sheet = new CSSStyleSheet();
sheet.replaceSync('* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important } p { margin-bottom: 2em !important }');
document.adoptedStyleSheets = [sheet]; return true })()`

// Accessible holds the page to what audit.js lists: in both colour schemes, on a
// wide screen and on a telephone. At 320 CSS pixels nothing may have to be scrolled
// sideways (1.4.10), with the reader's own text spacing (1.4.12) either.
func (b *Tab) Accessible(name string) {
	b.Helper()
	for _, screen := range []Screen{
		{Width: 1280, Height: 800, Scheme: "light"}, {Width: 1280, Height: 800, Scheme: "dark"}, {Width: 320, Height: 640, Scheme: "light"},
	} {
		b.On(screen)
		for _, wrong := range Ask[[]string](b, auditJS) {
			b.Errorf("%s, %d pixels, %s: %s", name, screen.Width, screen.Scheme, wrong)
		}
	}
	b.fits(name, 320)
	Ask[bool](b, spaced)
	b.fits(name+" with wide text spacing", 320)
	Ask[bool](b, "(document.adoptedStyleSheets = [], true)")
}

// fits holds the page to a width.
func (b *Tab) fits(name string, width float64) {
	b.Helper()
	if wide := Ask[float64](b, "document.documentElement.scrollWidth"); wide > width {
		widest := Ask[string](b, "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className).slice(0, 5).join(' ')")
		b.Errorf("%s: the page is %.0f pixels wide on a screen of %.0f: %s", name, wide, width, widest)
	}
}

// stop is where the focus is.
type stop struct {
	Name   string   `json:"name"`
	At     int      `json:"at"` // among all that can be reached, in the order of the page; -1 is none of them
	Reach  int      `json:"reach"`
	Wrongs []string `json:"wrongs"`
}

// KeyboardWalk presses the tab key from the start of the page to its end: the focus
// must reach every control, once, in the order of the page, and must be seen at each
// (2.1.1, 2.1.2, 2.4.3, 2.4.7, 2.4.11, 2.4.13).
func (b *Tab) KeyboardWalk(name string) {
	b.Helper()
	b.On(Screen{Width: 1280, Height: 800, Scheme: "light"})
	Ask[bool](b, "(document.activeElement?.blur(), getSelection().removeAllRanges(), scrollTo(0, 0), true)")
	for i := range mostStops {
		b.Key(kb.Tab)
		at := Ask[stop](b, focusJS)
		if i == at.Reach {
			if at.At >= 0 {
				b.Errorf("%s: the focus goes on to %s after all %d controls", name, at.Name, at.Reach)
			}
			return
		}
		if at.At != i {
			b.Errorf("%s: stop %d of the focus is %s, number %d of the page", name, i, at.Name, at.At)
			return
		}
		for _, wrong := range at.Wrongs {
			b.Errorf("%s: %s", name, wrong)
		}
	}
}

// Key presses one key, where the focus is.
func (b *Tab) Key(key string) {
	b.Helper()
	b.Do(chromedp.KeyEvent(key))
}

// TabTo presses the tab key until the focus is on what the CSS selector names.
func (b *Tab) TabTo(selector string) {
	b.Helper()
	for range mostStops {
		b.Key(kb.Tab)
		if Ask[bool](b, "document.activeElement.matches(`"+selector+"`)") {
			return
		}
	}
	b.Fatalf("the tab key never comes to %s; the page has: %s", selector, b.Text())
}

// Keys types where the focus is.
func (b *Tab) Keys(text string) {
	b.Helper()
	b.Do(chromedp.KeyEvent(strings.ReplaceAll(text, "\n", kb.Enter)))
}

// EnterLeads presses the enter key where the focus is, and waits for the page that
// it leads to.
func (b *Tab) EnterLeads() {
	b.Helper()
	b.leads("the enter key", chromedp.KeyEvent(kb.Enter))
}
