package config_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"sluice/gateway/config"
)

const (
	document = "../../docs/gateway.md"
	begin    = "<!-- flags: written by `go test ./gateway/config -update`, and held to the flags by the same test -->\n"
	end      = "<!-- end of flags -->\n"
)

func TestTheTableInTheDocumentsIsThatOfTheFlags(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no section between\n%s%s", document, begin, end)
	}
	table := table()
	if old == table {
		return
	}
	if flag.Lookup("update").Value.String() != "true" {
		t.Fatalf("the section about flags in %s is out of date; run: go test ./gateway/config -update", document)
	}
	if err := os.WriteFile(document, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// table returns the section.
func table() string {
	var b strings.Builder
	cell := func(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
	group := ""
	for _, f := range config.Flags() {
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(&b, "\n### %s\n| flag | default | what |\n|---|---|---|\n", group)
		}
		name := strings.TrimSpace("-" + f.Name + " " + f.Value)
		standard := ""
		if f.Default != "" {
			standard = "`" + cell(f.Default) + "`"
		}
		usage := f.Usage
		if f.Alias != "" {
			usage += "; also `-" + f.Alias + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", cell(name), standard, cell(usage))
	}
	b.WriteString("\n### Options of `-listen`\n`ADDRESS;OPTION=VALUE;...`, where ADDRESS is `IP:PORT`, `[IPv6]:PORT`, or `:PORT` for every address.\n\n| option | what |\n|---|---|\n")
	for _, o := range config.ListenOptions() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", cell(o.Name+"="+o.Value), cell(o.Usage))
	}
	return b.String() + "\n"
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the section about flags in "+document)
	flag.Parse()
	os.Exit(m.Run())
}
