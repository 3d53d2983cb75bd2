package proofs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// settingDone is what `sluice web config set -o json` and unset print.
type settingDone struct {
	Before      *string  `json:"before"`
	InForce     string   `json:"in_force"`
	Index       uint64   `json:"index"`
	RunningWith []string `json:"running_with"`
	Seconds     float64  `json:"seconds"`
}

// configuresWeb changes the configuration by the command line: each time the very next
// requests meet it, and a value that web would refuse is never written.
func configuresWeb(p *proof) {
	first := p.configure("set", "web/tagline", "Proven here.")
	for range 4 { // both instances are asked
		p.pageSays("text/html", http.StatusOK, "Proven here.")
	}
	refused := p.lab.Run("web", "config", "set", "web/maintenance", "soon")
	if refused.Code != 2 || !strings.Contains(refused.Stderr, "want true or false") {
		p.Errorf("a bad value: %s", refused)
	}
	if dry := p.lab.Must("web", "config", "set", "web/maintenance", "true", "--dry-run"); !strings.Contains(dry.Stderr, "would be, in dc1: web/maintenance is true; now -") {
		p.Errorf("a dry run: %s", dry)
	}
	p.pageSays("text/html", http.StatusOK, "Proven here.")
	if got := p.lab.Must("web", "config", "get", "tagline"); got.Stdout != "Proven here.\n" {
		p.Errorf("get: %s", got)
	}
	p.listsSettings()

	p.lab.Must("fault", "stop", "web-2/web")
	late := p.lab.Run("web", "config", "set", "web/tagline", "Told to one.")
	if late.Code != 3 || !strings.Contains(late.Stderr, "taken over by web-1/web; not yet by web-2/web (stopped)") || !strings.Contains(late.Stderr, "fault heal web-2") {
		p.Errorf("while one is frozen: %s", late)
	}
	p.lab.Must("fault", "heal", "web-2")

	last := p.configure("unset", "web/tagline")
	if last.Index <= first.Index || last.Before == nil || *last.Before != "Told to one." || last.InForce != "" {
		p.Errorf("unset: %+v", last)
	}
	for range 4 {
		if _, body, _ := p.page("text/html"); strings.Contains(body, "Told to one.") || strings.Contains(body, "Proven here.") {
			p.Errorf("the value is on the page still: %s", excerpt(body))
		}
	}
	p.configure("unset", "web/tagline") // twice is no error

	took := p.changes(40)
	p.Logf("web/installed_apps written -> in effect in every web: %s (%d writes, bar: median %s)", took, len(took), configurationBar)
	if median := took.quantile(0.5); median > configurationBar {
		p.Errorf("half of the changes took more than %s, the bar is %s", median, configurationBar)
	}
}

// configurationBar is what a change of the configuration may take, from before its write
// to a page of each web that is made with it: so much for one half of them. A machine
// under load is late with some, whatever web does.
const configurationBar = 250 * time.Millisecond

// changes writes web/installed_apps n times, with the blog and without, and returns how
// long each took until each web had answered with a page that shows it. The page asks no
// database, so that what is measured is the configuration.
func (p *proof) changes(n int) sample {
	p.Helper()
	defer func() { _ = p.consul.KVDelete(p.bounded(10*time.Second), "web/installed_apps") }()
	var took sample
	for i := range n {
		apps, has := "topology blog admin", true
		if i%2 == 0 {
			apps, has = "topology admin", false
		}
		began := monotonic()
		if err := p.consul.KVPut(p.bounded(10*time.Second), "web/installed_apps", []byte(apps)); err != nil {
			p.Fatal(err)
		}
		p.untilBothShow(has)
		took = append(took, monotonic()-began)
	}
	return took
}

// untilBothShow asks for the page of the login until both webs have shown that the blog
// is served, or that it is not.
func (p *proof) untilBothShow(blog bool) {
	p.Helper()
	shown := map[string]bool{}
	for ctx := p.bounded(10 * time.Second); len(shown) < 2; {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.lab.URL(9999, "/web/admin/login"), nil)
		if err != nil {
			p.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			p.Fatalf("only %d of both webs show it: %v", len(shown), err)
		}
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		if err := errors.Join(err, response.Body.Close()); err != nil || response.StatusCode != http.StatusOK {
			p.Fatalf("status %d, %v: %s", response.StatusCode, err, excerpt(string(body)))
		}
		_, served, _ := strings.Cut(string(body), "Served by <strong>")
		node, _, _ := strings.Cut(served, "<")
		if strings.Contains(string(body), `href="/web/blog"`) == blog && node != "" {
			shown[node] = true
		}
	}
}

// configure changes one key and wants both instances to run with it.
func (p *proof) configure(args ...string) settingDone {
	p.Helper()
	began := time.Now()
	result := p.lab.Must(append([]string{"web", "config", "-o", "json"}, args...)...)
	var done settingDone
	if err := json.Unmarshal([]byte(result.Stdout), &done); err != nil {
		p.Fatalf("%v: %s", err, result)
	}
	if strings.Join(done.RunningWith, " ") != "web-1/web web-2/web" || done.Seconds <= 0 || done.Seconds > time.Since(began).Seconds() {
		p.Errorf("%s: %s", args, result)
	}
	p.Logf("%s: %s", args, strings.TrimSpace(result.Stderr))
	return done
}

// listsSettings puts a value into Consul that web refuses, past the command line.
func (p *proof) listsSettings() {
	if err := p.consul.KVPut(p.bounded(5*time.Second), "web/debug", []byte("perhaps")); err != nil {
		p.Fatal(err)
	}
	table := p.lab.Must("web", "config", "list").Stdout
	for _, words := range []string{"web/debug perhaps no: want true or false false", "web/tagline Proven here. yes empty", "web/read_preference - - nearest"} {
		if !strings.Contains(strings.Join(strings.Fields(table), " "), words) {
			p.Errorf("list does not say %q:\n%s", words, table)
		}
	}
	if got := p.lab.Run("web", "config", "get", "web/debug"); got.Code != 1 || got.Stdout != "perhaps\n" || !strings.Contains(got.Stderr, "web/debug is not in force: want true or false") {
		p.Errorf("get of a value that is not valid: %s", got)
	}
	p.lab.Must("web", "config", "unset", "web/debug")
}

// maintenanceEjectsNobody closes the blog for maintenance: every page is 503 with
// Retry-After, and the gateway takes no instance for broken.
func maintenanceEjectsNobody(p *proof) {
	p.configure("set", "web/maintenance", "true")
	for range 20 {
		for _, path := range []string{"/web", "/web/blog/main"} {
			response, err := http.Get(p.lab.URL(9999, path))
			if err != nil {
				p.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "30" {
				p.Fatalf("%s: %d, Retry-After %q", path, response.StatusCode, response.Header.Get("Retry-After"))
			}
		}
	}
	if err := p.inRotation("web-web-1", "web-web-2"); err != nil {
		p.Errorf("under maintenance: %v", err)
	}
	for _, name := range []string{"web-1", "web-2"} {
		for _, process := range p.node(name).Processes {
			if process.Healthy != nil && !*process.Healthy {
				p.Errorf("%s/%s under maintenance: %s", name, process.Name, process.Health)
			}
		}
	}
	p.configure("unset", "web/maintenance")
	for range 8 {
		p.pageSays("text/html", http.StatusOK)
	}
}

// inRotation holds that the gateway picks these instances of web, none of which it has
// ejected, and no others.
func (p *proof) inRotation(want ...string) error {
	response, err := http.Get(p.lab.URL(9998, "/routes"))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var table struct {
		Routes []struct {
			Instances []struct {
				Instance string `json:"instance"`
				Service  string `json:"service"`
				Eligible bool   `json:"eligible"`
				Avoided  bool   `json:"avoided"`
				Why      string `json:"why"`
			} `json:"instances"`
		} `json:"routes"`
	}
	if err := json.NewDecoder(response.Body).Decode(&table); err != nil {
		return err
	}
	var found []string
	for _, route := range table.Routes {
		for _, i := range route.Instances {
			if i.Service != "web" {
				continue
			}
			found = append(found, i.Instance)
			if !i.Eligible || i.Avoided {
				return fmt.Errorf("%s: eligible %t (%s), avoided %t", i.Instance, i.Eligible, i.Why, i.Avoided)
			}
		}
	}
	slices.Sort(found)
	if !slices.Equal(found, want) {
		return fmt.Errorf("the gateway picks %v, want %v", found, want)
	}
	return nil
}
