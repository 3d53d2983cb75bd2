package intentions

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// labServices are the services of the lab.
func labServices() []string {
	return []string{"gateway", "web", "mongo-primary", "mongo-secondary", "mongo-repl"}
}

const good = `Kind = "service-intentions"
Name = "web"
Sources = [
  {
    Name        = "gateway"
    Action      = "allow"
    Description = "visitors"
  },
  { Name = "*", Action = "deny" },
]
`

func TestTheLabsFilesAllowExactlyTheFourEdges(t *testing.T) {
	entries, err := Load(".")
	if err != nil {
		t.Fatal(err)
	}
	if problems := Validate(entries, labServices()); len(problems) != 0 {
		t.Errorf("the lab's own files have problems:\n%s", problems)
	}
	allowed := []string{}
	set := NewSet(Flatten(entries), Deny)
	for _, source := range labServices() {
		for _, destination := range labServices() {
			if set.Decide(source, destination).Allowed {
				allowed = append(allowed, source+" -> "+destination)
			}
		}
	}
	want := []string{"gateway -> web", "web -> mongo-primary", "web -> mongo-secondary", "mongo-repl -> mongo-repl"}
	if !slices.Equal(allowed, want) {
		t.Errorf("allowed edges are %q, want %q", allowed, want)
	}
}

func TestARuleKnowsItsFileAndLine(t *testing.T) {
	entry, err := Parse("intentions/web.hcl", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if got := entry.Position.String(); got != "intentions/web.hcl:2" {
		t.Errorf("the entry is at %s", got)
	}
	want := []Rule{
		{"gateway", "web", Allow, false, "visitors", Position{"intentions/web.hcl", 5}},
		{"*", "web", Deny, false, "", Position{"intentions/web.hcl", 9}},
	}
	if !slices.Equal(entry.Rules, want) {
		t.Errorf("got %+v", entry.Rules)
	}
}

func TestEachFaultOfAFileIsReportedWithLineAndFix(t *testing.T) {
	cases := []struct {
		name     string
		old, new string // replaced in good
		want     string // start of one line of the error
	}{
		{"syntax", `Name = "web"`, `Name "web"`, "web.hcl:3: cannot read HCL: "},
		{"syntax inside a source", `Action      = "allow"`, `Action      "allow"`, "web.hcl:7: cannot read HCL: "},
		{"open string", `"visitors"`, `"visitors`, "web.hcl:7: cannot read HCL: "},
		{"no kind", `Kind = "service-intentions"`, ``, `web.hcl:1: the file has no Kind; add Kind = "service-intentions"`},
		{"other kind", `service-intentions`, `service-defaults`, `web.hcl:1: Kind is "service-defaults"; write Kind = "service-intentions"`},
		{"kind not a string", `"service-intentions"`, `7`, "web.hcl:1: Kind is not a quoted string"},
		{"no name", `Name = "web"`, ``, "web.hcl:1: the file has no Name"},
		{"name not a string", `Name = "web"`, `Name = ["web"]`, "web.hcl:2: Name is not a quoted string"},
		{"name with part of a wildcard", `Name = "web"`, `Name = "web*"`, `web.hcl:2: "web*" is not a service name`},
		{"name in capitals", `Name = "web"`, `Name = "Web"`, `web.hcl:2: "Web" is not a service name`},
		{"empty name", `Name = "web"`, `Name = ""`, `web.hcl:2: "" is not a service name`},
		{"unknown key", `Sources =`, `Sorces =`, `web.hcl:3: the entry has an unknown key "Sorces"; did you mean Sources?`},
		{"unknown key of a source", `Action      =`, `Acton      =`, `web.hcl:6: a source has an unknown key "Acton"; did you mean Action?`},
		{"key like no other", `Action      =`, `Colour      =`, `web.hcl:6: a source has an unknown key "Colour"; use Name, Action`},
		{"namespace", `Name = "web"`, "Namespace = \"default\"\nName = \"web\"", `web.hcl:2: the entry has an unknown key "Namespace"; remove it: namespaces`},
		{"peer", `Action      =`, `Peer      =`, `web.hcl:6: a source has an unknown key "Peer"; remove it: cluster peering`},
		{"precedence", `Action      =`, `Precedence      =`, `web.hcl:6: a source has an unknown key "Precedence"; remove it: Consul computes`},
		{"JWT", `Name = "web"`, "JWT = {}\nName = \"web\"", `web.hcl:2: the entry has an unknown key "JWT"; remove it: a native service`},
		{"second entry", `Name = "web"`, "Name = \"web\"\nName = \"api\"", "web.hcl:3: the entry has a second Name, beside line 2; keep one of them: a file holds the entry of one destination"},
		{"key twice", `Action      =`, "Name = \"x\"\nAction      =", "web.hcl:6: a source has a second Name, beside line 5; keep one of them"},
		{"key twice in other case", `Action      =`, "name = \"x\"\nAction      =", "web.hcl:6: a source has a second Name, beside line 5"},
		{"labelled block", `Name = "web"`, "Name \"web\" {}", "web.hcl:2: the entry has a labelled block"},
		{"sources as a block", good[strings.Index(good, "Sources"):], `Sources { Name = "a" Action = "allow" }`, "web.hcl:3: Sources is not a list"},
		{"no source", good[strings.Index(good, "Sources"):], `Sources = []`, "web.hcl:3: Sources is empty"},
		{"source not an object", `{ Name = "*", Action = "deny" }`, `"*"`, "web.hcl:9: Sources holds something that is not an object"},
		{"source without name", `{ Name = "*", Action = "deny" }`, `{ Action = "deny" }`, "web.hcl:9: a source has no Name"},
		{"source without action", `{ Name = "*", Action = "deny" }`, `{ Name = "*" }`, "web.hcl:9: a source has no Action"},
		{"other action", `"allow"`, `"Allow"`, `web.hcl:6: Action is "Allow"; write "allow" or "deny"`},
		{"action not a string", `"allow"`, `true`, "web.hcl:6: Action is not a quoted string"},
		{"action and permissions", `Action      = "allow"`, "Action = \"allow\"\nPermissions = [{}]", "web.hcl:7: a source has both Action and Permissions"},
		{"description not a string", `"visitors"`, `1.5`, "web.hcl:7: Description is not a quoted string"},
		{"description too long", `visitors`, strings.Repeat("x", 513), "web.hcl:7: Description is 513 bytes long"},
		{"other type", `Action      =`, "Type = \"k8s\"\nAction      =", `web.hcl:6: Type is "k8s"`},
		{"empty file", good, "", "web.hcl:1: the file has no Kind"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			source := strings.Replace(good, c.old, c.new, 1)
			if source == good {
				t.Fatal("the case changes nothing")
			}
			_, err := Parse("web.hcl", []byte(source))
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("want Problems, got %v", err)
			}
			if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.HasPrefix(p.String(), c.want) }) {
				t.Errorf("got:\n%s\nwant a line that starts with:\n%s", problems, c.want)
			}
			for _, p := range problems {
				if p.Position.Line == 0 || p.Fix == "" || p.Severity != Error {
					t.Errorf("%+v: has no line, no fix or is no error", p)
				}
			}
		})
	}
}

func TestFaultsOfAllFilesAreReportedTogether(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "api.hcl", strings.ReplaceAll(good, "allow", "alow"))
	write(t, dir, "web.hcl", strings.ReplaceAll(good, "Kind", "Knd"))
	_, err := Load(dir)
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 3 {
		t.Fatalf("want three problems, got %v", err)
	}
}

func TestAFolderWithoutIntentionsIsAnError(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "holds no *.hcl file") {
		t.Errorf("empty folder: %v", err)
	}
	dir := t.TempDir()
	write(t, dir, "huge.hcl", strings.Repeat("#", maxFile+1))
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("huge file: %v", err)
	}
	odd := filepath.Join(t.TempDir(), "a[b]*c")
	if err := os.Mkdir(odd, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, odd, "web.hcl", good)
	if entries, err := Load(odd); err != nil || len(entries) != 1 {
		t.Errorf("folder with a pattern in its name: %v, %v", entries, err)
	}
}

func TestPermissionsAreReadAsADenyOfEverything(t *testing.T) {
	source := strings.Replace(good, `Action      = "allow"`, `Permissions = [{ Action = "allow", HTTP = { PathPrefix = "/" } }]`, 1)
	entry, err := Parse("web.hcl", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	decision := NewSet(entry.Rules, Allow).Decide("gateway", "web")
	if decision.Allowed || !strings.Contains(decision.String(), "HTTP permissions") {
		t.Errorf("got %s", decision)
	}
}

// FuzzLoad holds two claims: nothing makes the parser panic, and whatever parses
// means the same when it is written out and parsed again.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(strings.ToLower(good)))
	f.Add([]byte(`Kind="service-intentions" Name="*" Sources=[{Name="a" Permissions=[{}]}]`))
	f.Add([]byte("Kind = <<X\nservice-intentions\nX\nSources = [[], {}, 1]"))
	f.Add([]byte(`"Kind" = "\x41${"}"}`))
	f.Fuzz(func(t *testing.T, source []byte) {
		if len(source) > maxFile {
			return
		}
		entry, err := Parse("fuzz.hcl", source)
		if err != nil {
			return
		}
		again, err := Parse("fuzz.hcl", []byte(render(entry)))
		if err != nil {
			t.Fatalf("written out, it does not parse: %v\n%s", err, render(entry))
		}
		if !NewSet(entry.Rules, Deny).Equal(NewSet(again.Rules, Deny)) {
			t.Fatalf("written out, it means something else:\n%s", render(entry))
		}
	})
}

// render writes an entry as a file.
func render(entry Entry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Kind = %q\nName = %q\nSources = [\n", Kind, entry.Destination)
	for _, rule := range entry.Rules {
		if rule.L7 {
			fmt.Fprintf(&b, "  { Name = %q, Permissions = [{ Action = \"deny\" }] },\n", rule.Source)
		} else {
			fmt.Fprintf(&b, "  { Name = %q, Action = %q },\n", rule.Source, rule.Action)
		}
	}
	return b.String() + "]\n"
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
