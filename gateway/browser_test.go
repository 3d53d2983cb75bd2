package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
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

	"sluice/internal/consultest"
)

// adminToken is what changes take in these tests.
const adminToken = "a token for tests"

// browser is a real browser, as one test uses it.
type browser struct {
	*testing.T
	ctx context.Context
}

// startBrowser starts one of its own; it ends with the test.
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
	return &browser{t, ctx}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.Fatal(err)
	}
}

// value is that of an expression on the page.
func (b *browser) value(expression string) string {
	b.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
	return text
}

// await waits until an element has a text.
func (b *browser) await(id, text string) {
	b.Helper()
	consultest.Await(b.T, 10*time.Second, fmt.Sprintf("#%s says %q", id, text), func() error {
		if got := b.value("document.getElementById('" + id + "').innerText"); !strings.Contains(got, text) {
			return errors.New(got)
		}
		return nil
	})
}

// scripts says whether the page may run its own.
func (b *browser) scripts(on bool) {
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return err
	}))
}

// picture writes one of the page, in light or dark, and returns its width.
func (b *browser) picture(dir, scheme string, width int64) float64 {
	b.Helper()
	b.do(chromedp.EmulateViewport(width, 1000, chromedp.EmulateScale(1)), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
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
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(dir, fmt.Sprintf("admin-%s-%d.png", scheme, width))
	if err := os.WriteFile(path, picture, 0o644); err != nil {
		b.Fatal(err)
	}
	b.Log(path)
	return wide
}

// register puts an instance into the catalog that nothing is behind.
func register(agent *consultest.Agent, service, id string, port int, tags ...string) {
	agent.Call(http.MethodPut, "/v1/agent/service/register", map[string]any{
		"ID": id, "Name": service, "Address": agent.Host, "Port": port, "Tags": tags, "Connect": map[string]any{"Native": true},
	}, nil)
}

// certificate writes one for a name and returns its folder.
func certificate(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(0x5107ce), DNSNames: []string{name}, NotBefore: time.Now(), NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "www.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// busyGateway is a gateway with something of everything that the page can show.
func busyGateway(t *testing.T) (agent *consultest.Agent, admin string) {
	agent = consultest.Start(t, consultest.Config{})
	intend(agent, "allow")
	for _, name := range []string{"shop", "fresh"} {
		agent.Call(http.MethodPut, "/v1/config", map[string]any{
			"Kind": "service-intentions", "Name": name, "Sources": []any{map[string]string{"Name": "gateway", "Action": "allow"}},
		}, nil)
	}
	startWeb(t, agent)
	register(agent, "shop", "shop-1", 8101, "urlprefix-shop.example/ strategy=rr timeout=5s", "urlprefix-shop.example/admin allow=ip:10.0.0.0/33")
	register(agent, "shop", "shop-2", 8102, "urlprefix-shop.example/ strategy=rr timeout=5s")
	register(agent, "ledger", "ledger-1", 8103, "urlprefix-ledger.example/api/v1 strip=/api")
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "legacy") }))
	t.Cleanup(legacy.Close)
	overrides := fmt.Sprintf("route add legacy legacy.example/ %s/ opts \"plain=true\"\nroute ad typo /typo http://127.0.0.1:1/\n", legacy.URL)
	put(t, agent, "/v1/kv/fabio/config", overrides)

	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(adminToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	startProcess(t, "-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host, "-consul", agent.Address, "-explain-errors", "-token-file", agent.ManagementFile(),
		"-admin-token-file", token, "-allow-plain", "-listen", net.JoinHostPort(agent.Host, "9999"),
		"-listen", net.JoinHostPort(agent.Host, "9443")+";proto=https;certs="+certificate(t, "www.example"))
	admin = "http://" + net.JoinHostPort(agent.Host, "9998")
	consultest.Await(t, 20*time.Second, "the gateway is ready", answers(admin+"/readyz", 200))
	consultest.Await(t, 20*time.Second, "the override holds", answers(admin+"/routes", 200, "legacy.example"))
	for i := range 200 {
		for _, host := range []string{"-", "legacy.example"} {
			request(t, "http://"+net.JoinHostPort(agent.Host, "9999")+"/web/"+fmt.Sprint(i), host)
		}
		if i%60 == 0 {
			request(t, "http://"+net.JoinHostPort(agent.Host, "9999")+"/basket", "shop.example")
		}
	}
	return agent, admin
}

// put writes a key as text.
func put(t *testing.T, agent *consultest.Agent, path, text string) {
	t.Helper()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+agent.Address+path, strings.NewReader(text))
	r.Header.Set("X-Consul-Token", agent.Management())
	response, err := http.DefaultClient.Do(r)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("write %s: %v, %v", path, response, err)
	}
	_ = response.Body.Close()
}

// request asks the gateway; what it answers is for the page to tell.
func request(t *testing.T, url, host string) {
	t.Helper()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	r.Host = host
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
}

func TestAnAdminTokenThatOthersCanReadStopsTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(adminToken), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, "-node", "gateway-1", "-address", "127.0.0.1", "-listen", "127.0.0.1:0", "-admin-address", "127.0.0.1:0", "-admin-token-file", file)
	if code := p.wait(t, 10*time.Second); code != 1 || !strings.Contains(p.output.String(), "chmod 600") || strings.Contains(p.output.String(), adminToken) {
		t.Errorf("exit %d, %q", code, p.output.String())
	}
}

func TestAnOperatorWorksWithTheAdminPageInABrowser(t *testing.T) {
	agent, admin := busyGateway(t)
	b := startBrowser(t)
	step := func(name string, do func(b *browser)) {
		t.Run(name, func(t *testing.T) { do(&browser{t, b.ctx}) })
	}
	// Not the test's own folder: people look at them afterwards.
	pictures, err := os.MkdirTemp("", "sluice-screenshots-")
	if err != nil {
		t.Fatal(err)
	}

	step("without scripts it is a plain snapshot", func(b *browser) {
		b.scripts(false)
		b.do(chromedp.Navigate(admin + "/?q=host:shop&ask=" + url.QueryEscape("http://shop.example/basket")))
		text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("body")))
		if err != nil {
			b.Fatal(err)
		}
		for _, want := range []string{
			"shop-1", "spiffe://", "2 of 5 routes fit", "10.0.0.0/33", "urlprefix-broken", "route ad typo", "www.example", "in 90 days", "How the route was found", "as of",
		} {
			if !strings.Contains(text, want) {
				b.Errorf("the page does not show %q:\n%s", want, text)
			}
		}
		b.scripts(true)
	})
	b.do(chromedp.EmulateViewport(1440, 1000), chromedp.Navigate(admin+"/"))
	step("the policy lets its style and its script work, and it is live", func(b *browser) {
		b.await("live", "live")
		if got := b.value("getComputedStyle(document.querySelector('main')).display"); got != "grid" {
			b.Errorf("display %q: the style is not applied", got)
		}
	})
	step("a new route appears by itself", func(b *browser) {
		register(agent, "fresh", "fresh-1", 8104, "urlprefix-fresh.example/")
		b.await("events", "new: fresh-1")
		b.await("found", "fresh.example/")
	})
	step("search narrows as one types", func(b *browser) {
		b.do(chromedp.SendKeys(chromedp.CSS("#q"), "service:shop"))
		b.await("found", "2 of 6 routes fit")
		if text := b.value("document.getElementById('found').innerText"); strings.Contains(text, "fresh.example") {
			b.Errorf("it still shows another service:\n%s", text)
		}
		if got := b.value("location.search"); got != "?q=service%3Ashop" {
			b.Errorf("the address has %q", got)
		}
		b.value("const q = document.getElementById('q'); q.value = ''; q.dispatchEvent(new Event('input')); ''")
	})
	step("an instance is drained with the token", func(b *browser) {
		b.await("found", "legacy.example")
		b.do(chromedp.Click(chromedp.CSS("button[data-instance=web-1]")), chromedp.SendKeys(chromedp.CSS("#secret"), "wrong\r"))
		b.await("token", "want Authorization")
		b.do(chromedp.SendKeys(chromedp.CSS("#secret"), adminToken+"\r"))
		b.await("events", "draining: it is picked no more")
		b.await("found", "draining")
		b.do(chromedp.Click(chromedp.CSS("button[data-instance=web-1]")))
		b.await("events", "resumed")
		b.await("found", "web-1")
	})
	step("a failed request is explained try by try", func(b *browser) {
		b.do(chromedp.Click(chromedp.CSS("#failures a[data-ask]")))
		b.await("answer", "Try by try")
		b.await("answer", "connection refused")
	})
	step("a URL is explained", func(b *browser) {
		b.value("document.getElementById('ask').value = ''")
		b.do(chromedp.SendKeys(chromedp.CSS("#ask"), "http://shop.example/basket\r"))
		b.await("answer", "How the route was found")
		b.await("answer", "shop.example/")
	})
	for _, scheme := range []string{"light", "dark"} {
		b.picture(pictures, scheme, 1440)
		if wide := b.picture(pictures, scheme, 390); wide > 390 {
			t.Errorf("the page is %.0f pixels wide on a telephone of 390", wide)
		}
	}
}
