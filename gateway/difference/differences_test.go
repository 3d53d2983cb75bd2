package difference_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// correction is one difference that is meant, as the model knows it.
type correction int

const (
	ports correction = iota
	finalDot
	precedence
	strict
	closing
	segments
	trust
	dots
	slashes
	escapes
	oneSlash
	weights
	corrected // how many there are
)

// corrections are some of them.
type corrections map[correction]bool

// difference is what a reader of docs/gateway.md is told.
type difference struct {
	what, fabio, here, why string
}

// differences are all that the corpus may show. Each is shown by it, too.
func differences() [corrected]difference {
	return [corrected]difference{
		ports: {
			"`Host: a.test:8080`, route `a.test/`", "not taken: host and port are compared as one text; only `:80` is dropped",
			"taken: a route without a port is for every port, one with a port comes first", "A client says the port it dialled, which port forwarding changes.",
		},
		finalDot: {
			"`Host: a.test.`", "another name than `a.test`", "the same name", "It is the same name in the DNS; a guard must not depend on the dot.",
		},
		precedence: {
			"hosts that take the same name", "in reverse order of their reversed text: `web?.test` and `{web1,web2}.test` come before `web1.test`, `w*.test` before `*.test`",
			"the name, then wildcards from the longest, then patterns", "A name that is written out is more special than any pattern.",
		},
		strict: {
			"an option that is unknown, malformed or pointless; a host without a path", "passed over; the route serves without it",
			"the tag is quarantined, and shown with its reason", "A slip that nobody sees is found in an incident.",
		},
		closing: {
			"a slip in `allow`, `deny` or `auth`", "the list is open for everybody; an unknown scheme is 401", "the route is closed: 403", "Who was to be kept out must not get in by a slip.",
		},
		segments: {
			"`/in allow=...`, request `/inside`", "the route takes it", "the route takes `/in` and what is below; `/inside` goes on to the next route", "What a guard is for must not depend on what else begins with the same letters.",
		},
		trust: {
			"`X-Forwarded-For` on a route with `allow` or `deny`", "each address in it is checked, whoever wrote it", "only what a proxy of `-trusted-proxies` wrote is looked at",
			"Any client can write it. Name the proxies that are in front, and the client behind them is checked.",
		},
		dots: {
			"segments `.` and `..` in the path, encoded or not", "passed on", "400", "The service may take them for another path than the one that was routed and guarded.",
		},
		slashes: {
			"`//` in the path, where single slashes mean another route", "passed on under the route of the path as it is", "400", "Many services take `//in` for `/in`; a guard must not be walked around so.",
		},
		escapes: {
			"`%2F`, `%61` and the like in a path that `strip` or `prepend` changes", "decoded, and encoded anew: the service sees `/a/b` for `/a%2Fb`", "passed on as the client wrote it, after `strip` and `prepend`", "They mean different things to many services.",
		},
		oneSlash: {
			"`redirect` with `$path`, where the path begins with more than one slash", "all of them are in `Location`", "exactly one",
			"Where `$path` stands alone, two slashes would name another host.",
		},
		weights: {
			"a weight that is no number", "no change of any service is taken until it is corrected; a Fabio that begins meanwhile has no routes", "the tag is quarantined; all others hold",
			"One service's slip is no other service's outage.",
		},
	}
}

// gone is the one that requests alone do not show; it has a test of its own.
func gone() difference {
	return difference{
		"the last healthy instance of a route went", "404, or a shorter route takes the request", "503 for ten minutes, then as if the route had never been",
		"It is known, and may be back in a moment; nobody else should get its requests meanwhile.",
	}
}

// circles cannot be in the corpus, because a circle depends on all routes at once;
// gateway/proxy has the test.
func circles() difference {
	return difference{
		"`redirect` that leads back to what was asked for", "passed over, for the next host's routes, if host and path are the request's and the scheme is what `X-Forwarded-Proto` says, whoever wrote it; else given, and the client goes in circles",
		"508 with the reason, or passed over where the route has instances as well; a circle through several routes too. `X-Forwarded-Proto` of a trusted proxy alone counts",
		"A browser says only that there were too many redirects.",
	}
}

// basis says what the table rests on.
const basis = `
An instance is called over Connect unless its tag says ` + "`plain=true`" + `, which Fabio takes for an option without meaning. Beyond that,
what a tag of Fabio's says about an HTTP route means the same here, but for the table: host, path, fall-through, ` + "`strip`, `prepend`,\n`host`, `redirect`, `weight`, `allow` and `deny`" + `.

What is said of Fabio rests on its documentation and its source, put into a model. ` + "`make test`" + ` asks a corpus of tags and requests of the
gateway and of the model, difference by difference. ` + "`make fabio-differential`" + ` asks the same corpus of Fabio's own program, 1.5.15 or what
` + "`SLUICE_FABIO`" + ` names, on a real Consul: 1.5.15 answers all of it as the model does, but that 1.5 knows no ` + "`prepend`" + ` (the model then has
none either), and that for a redirect to ` + "`https://host$path`" + ` it decodes the path, and panics if there is something to strip.
Not compared at all: an HTTP request for a route with ` + "`proto=`" + ` other than ` + "`http`" + `, where the copies of the source do not agree.
`

const (
	document = "../../docs/gateway.md"
	marker   = "<!-- differences -->\n"
)

// most is how many differences one request may show.
const most = 3

// explain returns the fewest corrections with which the model says what was seen.
func explain(w world, q request, got seen) (corrections, bool) {
	for size := range most + 1 {
		if found, ok := explainWith(w, q, got, corrections{}, 0, size); ok {
			return found, true
		}
	}
	return nil, false
}

func explainWith(w world, q request, got seen, chosen corrections, from correction, more int) (corrections, bool) {
	if more == 0 {
		return chosen, got.among(newModel(w, chosen).answers(q))
	}
	for c := from; c < corrected; c++ {
		chosen[c] = true
		if found, ok := explainWith(w, q, got, chosen, c+1, more-1); ok {
			return found, true
		}
		delete(chosen, c)
	}
	return nil, false
}

func every() corrections {
	all := corrections{}
	for c := range corrected {
		all[c] = true
	}
	return all
}

func TestTheDifferencesAreInTheDocuments(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), marker)
	if len(parts) != 3 {
		t.Fatalf("%s has no section between two lines %q", document, marker)
	}
	table := documented()
	if parts[1] == table {
		return
	}
	if os.Getenv("SLUICE_UPDATE") == "" {
		t.Fatalf("the section about differences in %s is out of date; run: SLUICE_UPDATE=1 go test ./gateway/difference", document)
	}
	if err := os.WriteFile(document, []byte(parts[0]+marker+table+marker+parts[2]), 0o644); err != nil {
		t.Fatal(err)
	}
}

// documented is the table as the documents have it.
func documented() string {
	var b strings.Builder
	b.WriteString(basis + "\n| what | Fabio | this gateway | why |\n|---|---|---|---|\n")
	cell := func(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
	all := differences()
	for _, d := range append(all[:], gone(), circles()) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(d.what), cell(d.fabio), cell(d.here), cell(d.why))
	}
	return b.String()
}
