// Package browsertest drives a real Chromium for tests, as a person would use it:
// by what can be seen, clicked and typed. It also holds pages to what WCAG 2.2 AA
// asks for and a program can check: see Tab.Accessible and Tab.KeyboardWalk.
//
// Nothing in it sleeps: each wait is for a named condition and is bounded.
package browsertest

import (
	"bytes"
	"context"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// patience bounds each wait for something that a page shows.
const patience = 30 * time.Second

// Tab is one tab of a browser, for one test at a time.
type Tab struct {
	testing.TB
	ctx context.Context
}

// Start starts a browser of its own with one tab; it ends with the test, or after
// limit. Without Chromium the test is skipped, unless SLUICE_REQUIRE=1, which makes
// that a failure.
func Start(t testing.TB, limit time.Duration) *Tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("SLUICE_REQUIRE") == "1" {
			t.Fatalf("SLUICE_REQUIRE=1, but %v; install it with: apt-get install chromium", err)
		}
		t.Skipf("%v; install it with: apt-get install chromium", err)
	}
	// A short name, because it keeps a socket there, and all of its files.
	dir, err := os.MkdirTemp("", "sluice-browser-")
	if err != nil {
		t.Fatal(err)
	}
	bounded, stop := context.WithTimeout(context.Background(), limit)
	allocator, end := chromedp.NewExecAllocator(bounded,
		chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(dir, "profile")), chromedp.Env("TMPDIR="+dir), chromedp.Headless, chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("hide-scrollbars", true),
	)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
		end()
		stop()
		_ = os.RemoveAll(dir)
	})
	// The browser starts with this tab, not with another that is opened first.
	tab := &Tab{t, ctx}
	tab.Open("about:blank")
	return tab
}

// For is the same tab for a part of the test: what goes wrong is that part's
// failure.
func (b *Tab) For(t testing.TB) *Tab { return &Tab{t, b.ctx} }

// Another opens one more tab of the same browser, which knows the same cookies; it
// closes with the test.
func (b *Tab) Another() *Tab {
	b.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
	})
	return &Tab{b.TB, ctx}
}

// Do runs browser actions in order.
func (b *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.Fatal(err)
	}
}

// Open goes to an address and waits until the page is there.
func (b *Tab) Open(url string) {
	b.Helper()
	if err := chromedp.Do(b.ctx, chromedp.Navigate(url)); err != nil {
		b.Fatalf("open %s: %v", url, err)
	}
}

// Press clicks what the CSS selector names and waits for the page that it leads to.
func (b *Tab) Press(selector string) {
	b.Helper()
	b.leads(selector, chromedp.Click(chromedp.CSS(selector)))
}

// leads runs an action and waits for the page that it leads to.
func (b *Tab) leads(what string, action chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, action); err != nil {
		b.Fatalf("%s: %v; the page has: %s", what, err, b.rest())
	}
}

// Click clicks what the CSS selector names, on a page that stays.
func (b *Tab) Click(selector string) {
	b.Helper()
	b.Do(chromedp.Click(chromedp.CSS(selector)))
}

// Type types into the field that the CSS selector names.
func (b *Tab) Type(selector, text string) {
	b.Helper()
	b.Do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

// Fill puts a text into a field at once, in the place of what it held.
func (b *Tab) Fill(selector, text string) {
	b.Helper()
	Ask[bool](b, "(document.querySelector("+strconv.Quote(selector)+").value = "+strconv.Quote(text)+", true)")
}

// Ask evaluates an expression of JavaScript in the page.
func Ask[T any](b *Tab, expression string) T {
	b.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
	return value
}

// Text is what a person reads on the page.
func (b *Tab) Text() string {
	b.Helper()
	return Ask[string](b, "document.body ? document.body.innerText : ''")
}

// rest is Text for the words of a failure: it does not fail itself.
func (b *Tab) rest() string {
	ctx, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body ? document.body.innerText : ''"))
	if err != nil {
		return "unknown: " + err.Error()
	}
	return text
}

// Until waits until an expression of JavaScript is true in the page, also across a
// change of the page; what says in words what it waits for.
func (b *Tab) Until(what, expression string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// An evaluation that meets a change of the page fails: the next one tells.
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("document.readyState === 'complete' && !!("+expression+")"))
		if err == nil && is {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.Fatalf("not within %s: %s (%v); the page has: %s", patience, what, err, b.rest())
		}
	}
}

// Shows waits until the page shows all the words.
func (b *Tab) Shows(words ...string) {
	b.Helper()
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = strconv.Quote(word)
	}
	b.Until("the page shows "+strings.Join(quoted, " and "), "["+strings.Join(quoted, ",")+"].every(word => document.body.innerText.includes(word))")
}

// Lacks fails the test if the page shows the words now.
func (b *Tab) Lacks(words string) {
	b.Helper()
	if text := b.Text(); strings.Contains(text, words) {
		b.Errorf("the page shows %q:\n%s", words, text)
	}
}

// WithoutScripts keeps this tab's pages from running any.
func (b *Tab) WithoutScripts() {
	b.Helper()
	b.Do(call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.Open(`data:text/html,<body>still<script>document.body.textContent = "it runs"</script>`)
	// By an expression and not by a node: Open may return before the nodes are those of
	// the new page.
	b.Until("a page whose script would change it stays as it is", "document.body.innerText === 'still'")
}

// Screen is what a person looks at: its size in CSS pixels, its colour scheme
// ("light" or "dark"), and how many pixels of the picture one CSS pixel is.
type Screen struct {
	Width, Height int64
	Scheme        string
	Scale         float64
}

// On shows the pages of this tab on another screen from now on, to somebody who
// wants no motion.
func (b *Tab) On(screen Screen) {
	b.Helper()
	b.Do(chromedp.EmulateViewport(screen.Width, screen.Height, chromedp.EmulateScale(max(screen.Scale, 1))), call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: screen.Scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	}))
}

// Shot returns what the screen shows as a PNG, or the whole page if full.
func (b *Tab) Shot(full bool) []byte {
	b.Helper()
	b.Do(call(page.BringToFront, cdp.Empty{}))
	action := chromedp.CaptureScreenshot()
	if full {
		action = chromedp.FullScreenshot(100)
	}
	raw, err := chromedp.Run(b.ctx, action)
	if err != nil {
		b.Fatalf("picture of the page: %v", err)
	}
	return raw
}

// Picture writes a Shot with as few colours as do not show, which takes some time.
func (b *Tab) Picture(path string, full bool) {
	b.Helper()
	picture, err := png.Decode(bytes.NewReader(b.Shot(full)))
	if err != nil {
		b.Fatalf("picture %s: %v", path, err)
	}
	small, err := shrink(picture)
	if err == nil {
		err = os.WriteFile(path, small, 0o644)
	}
	if err != nil {
		b.Fatalf("picture %s: %v", path, err)
	}
	b.Logf("%s: %d kB", path, len(small)/1000)
}

// call is a command of the browser's protocol as an action.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}
