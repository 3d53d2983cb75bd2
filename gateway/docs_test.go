package main

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/accesslog"
	"sluice/gateway/config"
	"sluice/gateway/proxy"
	"sluice/gateway/tag"
)

// reference is the page that lists what the tests below compare.
const reference = "../docs/gateway-reference.md"

// rows returns the tables below a heading, by the name in the first cell: what is
// in its code span up to a blank, a bracket or an equals sign.
func rows(t *testing.T, heading string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", reference, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	found := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`= ]+)[^`]*` (\\|.*)$").FindAllStringSubmatch(section, -1) {
		if _, twice := found[row[1]]; twice {
			t.Errorf("%s, %s: %s is there twice", reference, heading, row[1])
		}
		found[row[1]] = row[2]
	}
	return found
}

// same fails for what is missing in the page, and for what there is in the page
// alone.
func same(t *testing.T, heading string, want []string) {
	t.Helper()
	got := rows(t, heading)
	for _, name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s, %s: %s is missing", reference, heading, name)
		}
	}
	for name := range got {
		if !slices.Contains(want, name) {
			t.Errorf("%s, %s: there is no %s", reference, heading, name)
		}
	}
}

func TestTheReferenceHasEveryOptionOfTagsAndNoOther(t *testing.T) {
	same(t, "Options of tags", tag.OptionNames())
}

func TestTheReferenceHasEveryFieldAndFlagOfTheAccessLog(t *testing.T) {
	same(t, "Access log: fields", accesslog.FieldNames())
	same(t, "Access log: flags", accesslog.FlagNames())
}

// described returns the labels of each metric by its name.
func described(collectors ...prometheus.Collector) map[string]string {
	form, found := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`), map[string]string{}
	for _, c := range collectors {
		out := make(chan *prometheus.Desc, 64)
		c.Describe(out)
		close(out)
		for desc := range out {
			parts := form.FindStringSubmatch(desc.String())
			found[parts[1]] = parts[2]
		}
	}
	return found
}

// collectors keeps what a proxy registers.
type collectors struct {
	prometheus.Registerer
	all []prometheus.Collector
}

func (c *collectors) MustRegister(all ...prometheus.Collector) { c.all = append(c.all, all...) }

func TestTheReferenceHasEveryMetricWithItsLabels(t *testing.T) {
	var kept collectors
	proxy.New(proxy.Config{Registerer: &kept})
	want := described(append(kept.all, &collector{&gateway{cfg: config.Config{MetricsPrefix: "sluice_gateway"}}})...)
	if len(want) < 20 {
		t.Fatalf("only %d metrics are described", len(want))
	}
	same(t, "Metrics", slices.Collect(maps.Keys(want)))
	for name, row := range rows(t, "Metrics") {
		labels := strings.Trim(strings.Split(row, "|")[2], " ")
		if got := strings.ReplaceAll(strings.ReplaceAll(labels, "`", ""), " ", ""); got != want[name] {
			t.Errorf("%s: %s has the labels %q, and the page says %q", reference, name, want[name], got)
		}
	}
}

func TestTheReferenceHasEveryPathOfTheOperationsEndpoint(t *testing.T) {
	var want []string
	for _, file := range []string{"admin.go", "../internal/service/ops.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`"(?:GET|POST) (/[a-z/]*)`).FindAllSubmatch(source, -1) {
			if path := string(match[1]); !slices.Contains(want, path) {
				want = append(want, path)
			}
		}
	}
	if len(want) < 10 {
		t.Fatalf("only %d paths were found: %v", len(want), want)
	}
	same(t, "Operations endpoint", want)
}
