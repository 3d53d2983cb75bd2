package site_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"sluice/internal/mongotest"
	"sluice/web/blog"
)

// browser is a real one, as one test uses it.
type browser struct {
	*testing.T
	ctx context.Context
	dir string // of pictures
}

func startBrowser(t *testing.T) *browser {
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
	// Not the test's own folder: people look at them afterwards.
	pictures, err := os.MkdirTemp("", "sluice-screenshots-")
	if err != nil {
		t.Fatal(err)
	}
	bounded, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	allocator, end := chromedp.NewExecAllocator(bounded,
		chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(dir, "profile")), chromedp.Env("TMPDIR="+dir), chromedp.Headless, chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
	)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
		end()
		stop()
		_ = os.RemoveAll(dir)
	})
	return &browser{t, ctx, pictures}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.Fatal(err)
	}
}

// press clicks and waits for the page that it leads to.
func (b *browser) press(selector string) {
	b.Helper()
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		b.Fatalf("%s: %v", selector, err)
	}
}

// shows waits until the page has the words: one that has just been left may still
// be there.
func (b *browser) shows(words ...string) {
	b.Helper()
	mongotest.Wait(b.T, 10*time.Second, "the page shows what it should", func(context.Context) error {
		text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.readyState === 'complete' ? document.body.innerText : ''"))
		if err != nil {
			return err
		}
		for _, word := range words {
			if !strings.Contains(text, word) {
				return fmt.Errorf("no %q in %s", word, text)
			}
		}
		return nil
	})
}

// picture writes one of the page and holds the page to fit its width.
func (b *browser) picture(name, scheme string, width int64) {
	b.Helper()
	b.do(chromedp.EmulateViewport(width, 800, chromedp.EmulateScale(1)), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	}))
	wide, err := chromedp.Run(b.ctx, func(ctx context.Context, t *chromedp.Target) (float64, error) {
		metrics, err := cdp.Call(ctx, t, page.GetLayoutMetrics, cdp.Empty{})
		if err != nil || metrics.CSSContentSize == nil {
			return 0, err
		}
		return metrics.CSSContentSize.Width, nil
	})
	if err != nil {
		b.Fatal(err)
	}
	if wide > float64(width) {
		b.Errorf("%s: the page is %.0f pixels wide on a screen of %d", name, wide, width)
	}
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.dir, fmt.Sprintf("%s-%s-%d.png", name, scheme, width))
	if err := os.WriteFile(path, picture, 0o644); err != nil {
		b.Fatal(err)
	}
	b.Log(path)
}

// contrast is the expression that lists the elements whose text has less contrast
// to what is behind it than WCAG 2.2 AA asks for.
const contrast = `(() => {
const lum = c => { const [r,g,b] = c.match(/[\d.]+/g).map(Number).map(v => (v/=255) <= .03928 ? v/12.92 : ((v+.055)/1.055)**2.4); return .2126*r+.7152*g+.0722*b };
const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\)$/.test(c)) return c } return 'rgb(255,255,255)' };
const bad = [];
for (const e of document.querySelectorAll('body *')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || e.closest('.hidden,.skip')) continue;
  const s = getComputedStyle(e), a = lum(s.color), b = lum(behind(e));
  if ((Math.max(a,b)+.05)/(Math.min(a,b)+.05) < 4.5) bad.push(e.tagName + '.' + e.className + ' ' + s.color + ' on ' + behind(e));
}
for (const e of document.querySelectorAll('input:not([type=hidden]),select,textarea')) if (!e.labels.length) bad.push('no label: ' + e.name);
return bad.join('; ');
})()`

// accessible holds the page to contrast and labels in both schemes.
func (b *browser) accessible(name string) {
	b.Helper()
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{390, 1280} {
			b.picture(name, scheme, width)
		}
		bad, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](contrast))
		if err != nil || bad != "" {
			b.Errorf("%s, %s: %s %v", name, scheme, bad, err)
		}
	}
}

const essay = `A deny that only stops the *next* connection is a promise. This one is kept for the connections that are **already open**.

## What happens on the wire

1. Somebody writes the intention.
2. Every process that it concerns sees it within milliseconds.
3. Connections that are no longer allowed are reset; the others do not notice.

> An intention is a sentence: who may talk to whom.

| edge | before | after |
|---|---|---|
| gateway to web | open | open |
| web to mongo-primary | open | reset |

Try it with ` + "`sluice intentions deny web mongo-primary`" + ` and reload this page.
`

// inABrowser logs in, writes, edits, meets a conflict, deletes and undoes.
func inABrowser(d *desk) {
	b := startBrowser(d.T)
	b.do(chromedp.Navigate(d.base + "/admin"))
	b.accessible("login")
	b.do(chromedp.SendKeys(chromedp.CSS("#name"), "admin"), chromedp.SendKeys(chromedp.CSS("#password"), adminPassword))
	b.press("main form button")
	b.shows("Entries", "Log out admin")

	b.press("main .button")
	b.press("button[value=save]") // empty
	b.shows("The headline is missing.", "The text is missing.")
	b.do(chromedp.SendKeys(chromedp.CSS("#title"), "Cutting a connection that is open"))
	if _, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](fmt.Sprintf("document.getElementById('body').value = %q", essay))); err != nil {
		b.Fatal(err)
	}
	b.press("button[value=preview]")
	b.shows("Preview: not saved yet", "What happens on the wire")
	b.press("button[value=save]")
	b.shows("Cutting a connection that is open")
	b.accessible("admin")

	entry, err := d.store.EntryBySlug(d.Context(), blog.MainBlog, "cutting-a-connection-that-is-open")
	if err != nil {
		d.Fatal(err)
	}
	b.do(chromedp.Navigate(d.base + "/admin/entries/" + entry.ID))
	b.do(chromedp.SendKeys(chromedp.CSS("#title"), "Mine: "))
	theirs := entry
	theirs.Title, theirs.Edit, theirs.Author = "Cutting a connection, theirs", "theirs", "bea"
	if err := d.store.ChangeEntry(d.Context(), theirs); err != nil {
		d.Fatal(err)
	}
	b.press("button[value=save]")
	b.shows("Somebody else has changed this entry", "This is how bea left it", "Cutting a connection, theirs")
	b.accessible("conflict")
	b.press("button[value=save]")
	b.shows("Mine: Cutting a connection that is open")

	b.press(".row .danger")
	b.shows("is deleted, and gone for good at")
	b.press(".notice button")
	b.do(chromedp.Navigate(d.base + "/blog/main/cutting-a-connection-that-is-open"))
	b.shows("What happens on the wire", "Try it with")
	b.accessible("entry")
	b.do(chromedp.Navigate(d.base + "/blog"))
	b.shows("Mine: Cutting a connection that is open", "Older")
	b.accessible("list")
}

// liveInABrowser leaves the topology page open while the mesh changes.
func liveInABrowser(d *desk) {
	b := startBrowser(d.T)
	b.do(chromedp.Navigate(d.base))
	b.shows("Live: what changes shows here at once.", d.member, "Nothing has changed")
	b.accessible("topology")
	d.way.fail(denied("web", "mongo-primary"))
	b.shows("web -> mongo-primary is denied: denied by intention web -> mongo-primary.")
	b.accessible("topology-denied")
	d.way.fail(nil)
	b.shows("web -> mongo-primary works again after")
	b.do(chromedp.Click(chromedp.CSS("#pause")))
	b.shows("Paused.", "Go on")
	d.way.fail(errors.New("gone"))
	b.do(chromedp.Click(chromedp.CSS("#pause")))
	b.shows("web -> mongo-primary fails", "Live: what changes")
	d.way.fail(nil)
	b.shows("works again")
}
