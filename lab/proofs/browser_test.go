package proofs_test

import (
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// phone is the width of a small telephone, in CSS pixels.
const phone = 360

// browserReadsAndWrites uses the page as a person does, with a real browser that
// runs no script.
func browserReadsAndWrites(p *proof) {
	ctx := p.browser()
	entry := "entry " + rand.Text()
	url := p.lab.URL(9999, "/web")
	// Not the test's own folder: people look at them afterwards.
	pictures, err := os.MkdirTemp("", "sluice-screenshots-")
	if err != nil {
		p.Fatal(err)
	}
	p.do(ctx, withoutScripts(), chromedp.Navigate(`data:text/html,<body>still<script>document.body.textContent = "it runs"</script>`))
	if text := p.text(ctx); text != "still" {
		p.Fatalf("scripts run in this browser: no evidence: %q", text)
	}
	p.do(ctx, chromedp.Navigate(url))
	text := p.text(ctx)
	for _, word := range []string{"web-", "127.0.10.1:27017", "Primary address", "Is primary", "Is secondary", "spiffe://", "serial", "expires"} {
		if !strings.Contains(text, word) {
			p.Errorf("the page does not show %q:\n%s", word, text)
		}
	}
	p.do(ctx, chromedp.SendKeys(chromedp.CSS("#title"), entry), chromedp.SendKeys(chromedp.CSS("#body"), "written without JavaScript"))
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS("form button"))); err != nil {
		p.Fatal(err)
	}
	if text = p.text(ctx); !strings.Contains(text, entry) || !strings.Contains(text, "written without JavaScript") {
		p.Errorf("the entry is not listed:\n%s", text)
	}
	p.screenshot(ctx, url, pictures, "blog")
	p.do(ctx, chromedp.Navigate(url+"/blog/main"))
	if text = p.text(ctx); strings.Contains(text, entry) || !strings.Contains(text, "Served by web-") {
		p.Errorf("an entry of somebody who has not logged in is in the blog, or that is not there:\n%s", text)
	}
	password, err := os.ReadFile(p.secret("blog-admin.password"))
	if err != nil {
		p.Fatal(err)
	}
	p.do(ctx, chromedp.Navigate(url+"/admin"), chromedp.SendKeys(chromedp.CSS("#name"), "admin"), chromedp.SendKeys(chromedp.CSS("#password"), string(password)))
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS("main form button"))); err != nil {
		p.Fatal(err)
	}
	if text = p.text(ctx); !strings.Contains(text, "Log out admin") || !strings.Contains(text, entry) {
		p.Errorf("the administrator that the lab has made is not let in:\n%s", text)
	}

	p.lab.Must("intentions", "deny", "web", "mongo-primary")
	p.do(ctx, chromedp.Navigate(url))
	text = p.text(ctx)
	for _, word := range []string{"denied by intention web -> mongo-primary", "sluice intentions allow web mongo-primary"} {
		if !strings.Contains(text, word) {
			p.Errorf("the denial does not say %q:\n%s", word, text)
		}
	}
	p.screenshot(ctx, url, pictures, "denied")
	p.lab.Must("intentions", "deny", "gateway", "web")
	p.do(ctx, chromedp.Navigate(url))
	if text = p.text(ctx); !strings.Contains(text, "denied by intention gateway -> web") {
		p.Errorf("the gateway's page does not say why:\n%s", text)
	}
	p.screenshot(ctx, url, pictures, "denied-by-the-gateway")
}

// do runs browser actions in order.
func (p *proof) do(ctx context.Context, actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.Fatal(err)
	}
}

// text is what a person reads on the page.
func (p *proof) text(ctx context.Context) string {
	p.Helper()
	text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
	if err != nil {
		p.Fatal(err)
	}
	return text
}

// withoutScripts keeps the page from running any.
func withoutScripts() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	})
}

// browser starts a browser of its own; it ends with the proof.
func (p *proof) browser() context.Context {
	p.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("SLUICE_REQUIRE") == "1" {
			p.Fatalf("SLUICE_REQUIRE=1, but %v; install it with: apt-get install chromium", err)
		}
		p.Skipf("%v; install it with: apt-get install chromium", err)
	}
	// A short name, because it keeps a socket there, and all of its files.
	dir, err := os.MkdirTemp("", "sluice-browser-")
	if err != nil {
		p.Fatal(err)
	}
	flags := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(dir, "profile")), chromedp.Env("TMPDIR=" + dir), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
	}
	allocator, end := chromedp.NewExecAllocator(p.bounded(90*time.Second), flags...)
	ctx, cancel := chromedp.NewContext(allocator)
	p.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
		end()
		_ = os.RemoveAll(dir)
	})
	return ctx
}

// screenshot takes a picture at the width of a telephone and holds the page to
// fit it.
func (p *proof) screenshot(ctx context.Context, url, dir, name string) {
	p.Helper()
	p.do(ctx, chromedp.EmulateViewport(phone, 740, chromedp.EmulateScale(2)), chromedp.Navigate(url))
	width, err := chromedp.Run(ctx, func(ctx context.Context, t *chromedp.Target) (float64, error) {
		metrics, err := cdp.Call(ctx, t, page.GetLayoutMetrics, cdp.Empty{})
		if err != nil || metrics.CSSContentSize == nil {
			return 0, err
		}
		return metrics.CSSContentSize.Width, nil
	})
	if err != nil {
		p.Fatal(err)
	}
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.Fatal(err)
	}
	if width > phone {
		p.Errorf("%s: the page is %.0f pixels wide on a telephone of %d", name, width, phone)
	}
	path := filepath.Join(dir, name+".png")
	if err := os.WriteFile(path, picture, 0o644); err != nil {
		p.Fatal(err)
	}
	p.Logf("%s at %d pixels: %s", name, phone, path)
}
