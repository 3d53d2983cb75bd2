package main

import (
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
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sluice/internal/browsertest"
	"sluice/internal/consultest"
)

// adminToken is what changes take in these tests.
const adminToken = "a token for tests"

// browser is a tab of a real browser, as one test uses it.
type browser struct{ *browsertest.Tab }

// value is that of an expression on the page.
func (b *browser) value(expression string) string {
	b.Helper()
	return browsertest.Ask[string](b.Tab, expression)
}

// await waits until an element has a text.
func (b *browser) await(id, text string) {
	b.Helper()
	consultest.Await(b, 10*time.Second, fmt.Sprintf("#%s says %q", id, text), func() error {
		if got := b.value("document.getElementById('" + id + "').innerText"); !strings.Contains(got, text) {
			return errors.New(got)
		}
		return nil
	})
}

// picture writes one of the page, in light or dark, and returns its width.
func (b *browser) picture(dir, scheme string, width int64) float64 {
	b.Helper()
	b.On(browsertest.Screen{Width: width, Height: 1000, Scheme: scheme})
	path := filepath.Join(dir, fmt.Sprintf("admin-%s-%d.png", scheme, width))
	if err := os.WriteFile(path, b.Shot(true), 0o644); err != nil {
		b.Fatal(err)
	}
	b.Log(path)
	return browsertest.Ask[float64](b.Tab, "document.documentElement.scrollWidth")
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
	b := browsertest.Start(t, 2*time.Minute)
	step := func(name string, do func(b *browser)) {
		t.Run(name, func(t *testing.T) { do(&browser{b.For(t)}) })
	}
	// Not the test's own folder: people look at them afterwards.
	pictures, err := os.MkdirTemp("", "sluice-screenshots-")
	if err != nil {
		t.Fatal(err)
	}

	step("without scripts it is a plain snapshot", func(b *browser) {
		plain := b.Another()
		plain.WithoutScripts()
		plain.Open(admin + "/?q=host:shop&ask=" + url.QueryEscape("http://shop.example/basket"))
		text := plain.Text()
		for _, want := range []string{
			"shop-1", "spiffe://", "2 of 5 routes fit", "10.0.0.0/33", "urlprefix-broken", "route ad typo", "www.example", "in 90 days", "How the route was found", "as of",
		} {
			if !strings.Contains(text, want) {
				b.Errorf("the page does not show %q:\n%s", want, text)
			}
		}
	})
	b.On(browsertest.Screen{Width: 1440, Height: 1000, Scheme: "light"})
	b.Open(admin + "/")
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
		b.Do(chromedp.SendKeys(chromedp.CSS("#q"), "service:shop"))
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
		b.Do(chromedp.Click(chromedp.CSS("button[data-instance=web-1]")), chromedp.SendKeys(chromedp.CSS("#secret"), "wrong\r"))
		b.await("token", "want Authorization")
		b.Do(chromedp.SendKeys(chromedp.CSS("#secret"), adminToken+"\r"))
		b.await("events", "draining: it is picked no more")
		b.await("found", "draining")
		b.Do(chromedp.Click(chromedp.CSS("button[data-instance=web-1]")))
		b.await("events", "resumed")
		b.await("found", "web-1")
	})
	step("a failed request is explained try by try", func(b *browser) {
		b.Do(chromedp.Click(chromedp.CSS("#failures a[data-ask]")))
		b.await("answer", "Try by try")
		b.await("answer", "connection refused")
	})
	step("a URL is explained", func(b *browser) {
		b.value("document.getElementById('ask').value = ''")
		b.Do(chromedp.SendKeys(chromedp.CSS("#ask"), "http://shop.example/basket\r"))
		b.await("answer", "How the route was found")
		b.await("answer", "shop.example/")
	})
	if dir := os.Getenv("SLUICE_PICTURES"); dir != "" {
		step("the documentation has a picture", func(b *browser) {
			b.On(browsertest.Screen{Width: 1440, Height: 1372, Scheme: "light"})
			b.Picture(filepath.Join(dir, "gateway-admin.png"), false)
		})
	}
	step("it fits a telephone", func(b *browser) {
		for _, scheme := range []string{"light", "dark"} {
			b.picture(pictures, scheme, 1440)
			// What a bar for scrolling would take of 390 pixels is left to it.
			if wide := b.picture(pictures, scheme, 375); wide > 375 {
				b.Errorf("the page is %.0f pixels wide on a telephone of 375", wide)
			}
		}
	})
}
