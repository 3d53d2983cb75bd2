package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// wider is the world's catalog with instances of "web" that are not in the mesh.
type wider struct {
	*meshtest.Catalog
	more []mesh.Instance
}

func (c wider) Services() map[string][]mesh.Instance {
	services := c.Catalog.Services()
	services["web"] = append(slices.Clip(services["web"]), c.more...)
	return services
}

// outside is an instance that takes no part in the mesh.
func outside(t *testing.T, world *meshtest.World, node string, tags ...string) mesh.Instance {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("plain " + node)) }))
	t.Cleanup(server.Close)
	instance := world.Instance("web", node, strings.TrimPrefix(server.URL, "http://"), tags...)
	instance.ID = mesh.Instance{}.ID
	return instance
}

// reason is why a tag is ignored that asks for an instance of the mesh without it.
func reason(allowed bool) string {
	if allowed {
		return "the instance is in the mesh"
	}
	return "-allow-plain"
}

func TestAnInstanceOutsideTheMeshIsCalledOnlyIfItsTagAndTheOperatorSaySo(t *testing.T) {
	for _, allowed := range []bool{true, false} {
		world := meshtest.New(t)
		world.Policy.Set(allowWeb)
		world.Serve("web", "meshed", http.HandlerFunc(hello), "urlprefix-/mixed", "urlprefix-/past plain=true", "urlprefix-/secure proto=https")
		catalog := wider{world.Catalog, []mesh.Instance{
			outside(t, world, "said", "urlprefix-/said plain=true"),
			outside(t, world, "silent", "urlprefix-/silent", "urlprefix-/mixed", "urlprefix-/guarded allow=ip:127.0.0.1"),
		}}
		l := with(t, world, proxy.Config{Catalog: catalog, Dialer: world.Dialer("gateway", nil), Policy: world.Policy, AllowPlain: allowed})
		want := 404
		if allowed {
			want = 200
		}
		for path, status := range map[string]int{"/said": want, "/silent": 404, "/guarded": 403, "/past": 404, "/secure": 404} {
			if got := l.get(path); got.status != status {
				t.Errorf("allowed %t, %s: %d %s, want %d", allowed, path, got.status, got.body, status)
			}
		}
		for range 20 {
			if got := l.get("/mixed"); got.status != 200 || strings.Contains(got.body, "plain") {
				t.Fatalf("/mixed: %d %s, want the one in the mesh", got.status, got.body)
			}
		}
		for path, why := range map[string]string{"/silent": "plain=true", "/mixed": "plain=true", "/past": reason(allowed), "/secure": reason(allowed)} {
			e, err := l.Explain(t.Context(), proxy.Question{URL: path})
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, ignored := range e.Ignored {
				found = found || strings.Contains(ignored.Tag, path) && strings.Contains(ignored.Reason, why)
			}
			if !found {
				t.Errorf("%s: the explanation does not say why the instance is left out: %+v", path, e.Ignored)
			}
		}
	}
}

func TestAnotherDatacenterIsSaidNotToBeFollowed(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Serve("web", "here", http.HandlerFunc(hello), "urlprefix-/far dc=elsewhere", "urlprefix-/both dc=dc1,elsewhere", "urlprefix-/near dc=dc1", "urlprefix-/next dc=dc2,dc1")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Datacenter: "dc1", Datacenters: []string{"dc2"}})
	for path, want := range map[string]struct {
		status int
		names  []string
	}{
		"/far": {503, []string{"elsewhere"}}, "/both": {200, []string{"elsewhere"}}, "/near": {200, nil}, "/next": {200, nil},
	} {
		if got := l.get(path); got.status != want.status {
			t.Errorf("%s: %d %s, want %d", path, got.status, got.body, want.status)
		}
		e, err := l.Explain(t.Context(), proxy.Question{URL: path})
		if err != nil || !slices.Equal(e.NotFollowed, want.names) {
			t.Errorf("%s: %q is said not to be followed, want %q (%v)", path, e.NotFollowed, want.names, err)
		}
		if want.status == 503 && !strings.Contains(e.Verdict, "elsewhere: other datacenter, not followed") {
			t.Errorf("%s: the verdict is %q", path, e.Verdict)
		}
		for _, r := range l.Routes().Routes {
			if strings.HasSuffix(r.Route, path) && (r.NotFollowed != "") != (len(want.names) > 0) {
				t.Errorf("%s: the table says %q", path, r.NotFollowed)
			}
		}
	}
}

func TestAnInstanceWithoutAShareIsShownWithTheReason(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Serve("web", "all", http.HandlerFunc(hello), "urlprefix-/web weight=1")
	world.Serve("web", "none", http.HandlerFunc(hello), "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	e, err := l.Explain(t.Context(), proxy.Question{URL: "/web"})
	if err != nil || e.Verdict != "The only eligible instance answers." || len(e.Instances) != 2 {
		t.Fatalf("%+v %v, want two instances, one of them eligible", e, err)
	}
	for _, list := range [][]proxy.InstanceState{e.Instances, l.Routes().Routes[0].Instances} {
		if last := list[len(list)-1]; last.Node != "none" || last.Eligible || !last.Allowed || last.Identity == "" || !strings.Contains(last.Why, "share 0") {
			t.Errorf("%+v, want the one without a share, and why", last)
		}
	}
	if found := l.Search("", 10); found.Routes[0].Omitted != 0 {
		t.Errorf("%d instances are said to be omitted, and all are listed", found.Routes[0].Omitted)
	}
}
