package imports

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// room is a folder and everything below it that has no row of its own.
type room struct {
	dir string
	// may are the rooms whose packages it may import beside its own.
	may []string
	// why says what would be lost with one more.
	why string
}

// rooms is the table of docs/DESIGN.md, section "Rooms". A service names the
// values of identity and intentions because the mesh speaks in them; lab and the
// command line read the mesh's report.
func rooms() []room {
	service := []string{"mesh", "consul", "identity", "intentions", "internal/service", "internal/secret"}
	return []room{
		{"identity", nil, "an identity is a value that every room can share"},
		{"datacenters", nil, "the topology describes; whoever acts on it imports it"},
		{"intentions", []string{"identity"}, "who may talk to whom is decided without I/O, so that it can be tested in full"},
		{"certs", []string{"identity"}, "certificates are judged without I/O"},
		{"mesh", []string{"identity", "intentions"}, "the security core must be readable, and fuzzed, without Consul"},
		{"consul", []string{"identity", "intentions", "mesh", "internal/secret"}, "the adapter to Consul knows no process of the product"},
		{"web", service, "a service reaches others over the mesh, never by import"},
		{"web/settings", nil, "values are judged by the same code before they are written and where they hold, so it is linked elsewhere and knows nothing of web"},
		{"mongo-agent", service, "a service reaches others over the mesh, never by import"},
		{"gateway", service, "a service reaches others over the mesh, never by import"},
		{"lab", []string{"consul", "datacenters", "certs", "intentions", "mesh", "web/settings", "internal"}, "the lab starts services as processes; what it links, it does not prove"},
		{"ledger", nil, "what clients were told is judged by code that shares nothing with what is judged"},
		{"ledger/client", append([]string{"ledger"}, service...), "a client writes as a service does, over the mesh"},
		{"drills", []string{"lab", "ledger", "consul", "datacenters", "certs", "intentions", "mesh", "internal"}, "drills see services from outside"},
		{"cmd/sluice", []string{"lab", "ledger", "drills", "consul", "datacenters", "certs", "intentions", "identity", "mesh", "web/settings", "internal"}, "the command line is thin, and no service is linked into it"},
		{"internal/service", nil, "what every process shares must not know any of them"},
		{"internal/secret", nil, "how a secret is read from a file is one rule, for everybody who reads one"},
		{"internal/binaries", nil, "finding a program needs nothing of the product"},
		{"internal/imports", nil, "the rules do not depend on what they rule"},
	}
}

// ban is a package, with all below it, that only some rooms may import.
type ban struct {
	packages []string
	allowed  []string // packages below that are harmless after all
	// banned reports whether a folder falls under the ban.
	banned func(dir string) bool
	why    string
}

func bans() []ban {
	return []ban{
		{
			packages: []string{"github.com/hashicorp/consul"},
			banned:   func(dir string) bool { return !within(dir, "consul") },
			why:      "the Connect SDK is deprecated: when it goes, one folder changes",
		},
		{
			packages: []string{"github.com/hashicorp"},
			banned:   func(dir string) bool { return within(dir, "mesh") },
			why:      "the mesh sees no Consul type",
		},
		{
			packages: []string{"net", "crypto/tls", "os/exec", "golang.org/x/net", "golang.org/x/sys", "syscall"},
			allowed:  []string{"net/netip", "net/url"},
			banned:   pure,
			why:      "a room that decides opens no socket and starts no process",
		},
		{
			packages: []string{"log"},
			allowed:  []string{"log/slog"},
			banned:   func(string) bool { return true },
			why:      "a global logger cannot be injected; use log/slog",
		},
	}
}

// pure reports whether a folder belongs to a room that decides and does nothing
// else.
func pure(dir string) bool {
	return slices.ContainsFunc([]string{"identity", "intentions", "datacenters", "certs"}, func(room string) bool {
		return within(dir, room)
	})
}

func TestImportsBetweenRoomsPointOneWay(t *testing.T) {
	report(t, checkRooms(tree(t)))
}

func TestOnlyTheRoomsThatMayKnowAPackageImportIt(t *testing.T) {
	report(t, checkBans(tree(t)))
}

func TestTheRoomsThatDecideStartNoGoroutineAndAskNobodyForTheTime(t *testing.T) {
	report(t, checkPure(tree(t)))
}

// TestEachRuleGoesRed holds the rules themselves to their word.
func TestEachRuleGoesRed(t *testing.T) {
	cases := []struct {
		name, file, source string
		check              func([]file) []string
		want               string // empty: no complaint
	}{
		{"allowed", "mesh/a.go", `import "sluice/intentions"`, checkRooms, ""},
		{"own folder", "lab/a.go", `import "sluice/lab/engine"`, checkRooms, ""},
		{"all of internal", "lab/a.go", `import "sluice/internal/binaries"`, checkRooms, ""},
		{"outside", "mesh/a.go", `import "fmt"`, checkRooms, ""},
		{"upwards", "identity/a.go", `import "sluice/mesh"`, checkRooms, "identity/a.go:2: identity may not import sluice/mesh"},
		{"upwards from below", "mongo-agent/role/a.go", `import "sluice/lab"`, checkRooms, "mongo-agent/role/a.go:2: mongo-agent may not import sluice/lab"},
		{"service by service", "gateway/a.go", `import "sluice/web"`, checkRooms, "gateway/a.go:2: gateway may not import sluice/web"},
		{"service by the command line", "cmd/sluice/a.go", `import "sluice/web"`, checkRooms, "cmd/sluice/a.go:2: cmd/sluice may not import sluice/web"},
		{"what judges a service's values by the command line", "cmd/sluice/a.go", `import "sluice/web/settings"`, checkRooms, ""},
		{"the service by what judges its values", "web/settings/a.go", `import "sluice/web/blog"`, checkRooms, "web/settings/a.go:2: web/settings may not import sluice/web/blog"},
		{"name that only begins alike", "web/a.go", `import "sluice/meshy"`, checkRooms, "web/a.go:2: web may not import sluice/meshy"},
		{"room without a row", "util/a.go", ``, checkRooms, "util/a.go: util is no room of the table"},
		{"test helpers in the product", "lab/a.go", `import "sluice/internal/consultest"`, checkRooms, "lab/a.go:2: sluice/internal/consultest is for tests"},
		{"test helpers in a test", "lab/a_test.go", `import "sluice/internal/consultest"`, checkRooms, ""},
		{"Consul elsewhere", "web/a.go", `import "github.com/hashicorp/consul/api"`, checkBans, "web/a.go:2: github.com/hashicorp/consul/api"},
		{"Consul in its room", "consul/a.go", `import "github.com/hashicorp/consul/api"`, checkBans, ""},
		{"Consul in a test", "mesh/a_test.go", `import "github.com/hashicorp/consul/connect"`, checkBans, ""},
		{"a type of Consul in the mesh", "mesh/a.go", `import "github.com/hashicorp/go-hclog"`, checkBans, "mesh/a.go:2: github.com/hashicorp/go-hclog"},
		{"a socket in a pure room", "certs/a.go", `import "net/http"`, checkBans, "certs/a.go:2: net/http"},
		{"an address in a pure room", "certs/a.go", `import "net/netip"`, checkBans, ""},
		{"the global logger", "web/a.go", `import "log"`, checkBans, "web/a.go:2: log"},
		{"slog", "web/a.go", `import "log/slog"`, checkBans, ""},
		{"a goroutine", "certs/a.go", `func f() { go f() }`, checkPure, "certs/a.go:2: starts a goroutine"},
		{"a goroutine elsewhere", "mesh/a.go", `func f() { go f() }`, checkPure, ""},
		{"the time", "datacenters/a.go", "import \"time\"\nvar now = time.Now", checkPure, "datacenters/a.go:3: asks for the time with time.Now"},
		{"the time by another name", "datacenters/a.go", "import clock \"time\"\nvar a = clock.Since(b)", checkPure, "datacenters/a.go:3: asks for the time with clock.Since"},
		{"a moment", "datacenters/a.go", "import \"time\"\nvar a = time.Unix(0, 0)", checkPure, ""},
		{"a dot import", "datacenters/a.go", "import . \"time\"", checkPure, "datacenters/a.go:2: imports \"time\" without a name"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			problems := c.check([]file{parse(t, c.file, "package p\n"+c.source)})
			switch {
			case c.want == "" && len(problems) > 0:
				t.Errorf("complains: %q", problems)
			case c.want != "" && (len(problems) != 1 || !strings.HasPrefix(problems[0], c.want)):
				t.Errorf("got %q, want %q", problems, c.want)
			}
		})
	}
}

// checkRooms returns one line per import that the table does not have.
func checkRooms(files []file) []string {
	var problems []string
	for _, f := range files {
		if f.test() {
			continue
		}
		own, ok := roomOf(f.dir())
		if !ok {
			problems = append(problems, f.name+": "+f.dir()+" is no room of the table: add a row with its reason, to docs/DESIGN.md too")
			continue
		}
		for name, spec := range f.imports() {
			target, internal := strings.CutPrefix(name, module+"/")
			switch {
			case !internal || within(target, own.dir):
			case testRoom(target):
				problems = append(problems, f.line(spec)+": "+name+" is for tests")
			case !slices.ContainsFunc(own.may, func(may string) bool { return within(target, may) }):
				problems = append(problems, f.line(spec)+": "+own.dir+" may not import "+name+": "+own.why)
			}
		}
	}
	return problems
}

// checkBans returns one line per import of a banned package.
func checkBans(files []file) []string {
	var problems []string
	for _, f := range files {
		if f.test() {
			continue
		}
		for name, spec := range f.imports() {
			for _, b := range bans() {
				in := func(pkg string) bool { return within(name, pkg) }
				if b.banned(f.dir()) && slices.ContainsFunc(b.packages, in) && !slices.ContainsFunc(b.allowed, in) {
					problems = append(problems, f.line(spec)+": "+name+" is banned here: "+b.why)
				}
			}
		}
	}
	return problems
}

// checkPure returns one line per goroutine and per look at the clock in a room
// that decides.
func checkPure(files []file) []string {
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"}
	var problems []string
	for _, f := range files {
		if f.test() || !pure(f.dir()) {
			continue
		}
		named := "time"
		for name, spec := range f.imports() {
			if spec.Name != nil && spec.Name.Name == "." {
				problems = append(problems, f.line(spec)+": imports "+spec.Path.Value+" without a name, which hides what is used")
			} else if spec.Name != nil && name == "time" {
				named = spec.Name.Name
			}
		}
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			switch n := node.(type) {
			case *ast.GoStmt:
				problems = append(problems, f.line(n)+": starts a goroutine: a room that decides owns nothing that runs")
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == named && slices.Contains(clock, n.Sel.Name) {
					problems = append(problems, f.line(n)+": asks for the time with "+named+"."+n.Sel.Name+": take it as an argument")
				}
			}
			return true
		})
	}
	return problems
}

// roomOf returns the row for a folder: the longest that holds it.
func roomOf(dir string) (room, bool) {
	for ; dir != "." && dir != "/"; dir = path.Dir(dir) {
		for _, r := range rooms() {
			if r.dir == dir {
				return r, true
			}
		}
	}
	return room{}, false
}

func report(t *testing.T, problems []string) {
	t.Helper()
	slices.Sort(problems)
	for _, problem := range problems {
		t.Error(problem)
	}
}
