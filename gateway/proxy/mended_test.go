package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// A program that hands fields on as variables cannot tell X_Forwarded_For from the
// gateway's own X-Forwarded-For.
func TestNamesWithUnderscoresDoNotPassForTheGatewaysFields(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.Contains(name, "_") {
				_, _ = fmt.Fprintln(w, strings.ToLower(name))
			}
		}
	}, "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	request, err := http.NewRequest(http.MethodGet, listen(t, l.Proxy)+"/web", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"X_Forwarded_For", "x-forwarded_proto", "X_Real_IP", "X_Request_Id", "X_Forwarded_Host", "my_own"} {
		request.Header[name] = []string{"forged"}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if got := strings.TrimSpace(string(body)); err != nil || got != "my_own" {
		t.Errorf("the instance got %q, %v; want my_own alone", got, err)
	}
}

func TestTheGatewayAloneSaysWhoServed(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Served-By", "somebody else")
		w.Header().Set("X-Served-Dc", "elsewhere")
	}, "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, ServedBy: true, ServedDC: true})
	response, err := http.Get(listen(t, l.Proxy) + "/web")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if by, dc := response.Header.Values("X-Served-By"), response.Header.Values("X-Served-Dc"); len(by) != 1 || by[0] == "somebody else" || len(dc) != 1 || dc[0] == "elsewhere" {
		t.Errorf("X-Served-By %q, X-Served-Dc %q", by, dc)
	}
}

// faulty is a connection at whose first byte something is wrong with us.
type faulty struct{ net.Conn }

func (faulty) Read([]byte) (int, error) { panic("a fault of ours") }

func TestAPanicCostsItsConnectionAndNothingElse(t *testing.T) {
	world := meshtest.New(t)
	serve(world, "web", "web-1", func(http.ResponseWriter, *http.Request) {}, "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil)})
	inner, outer := net.Pipe()
	defer outer.Close()
	l.Own(proxy.OwnConfig{}).Serve(t.Context(), faulty{inner}, proxy.Connection{})
	if _, err := outer.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
	families, err := l.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if strings.HasSuffix(family.GetName(), "_panics_total") && family.GetMetric()[0].GetCounter().GetValue() == 1 {
			return
		}
	}
	t.Error("the panic is not counted")
}
