package answers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unsafe"

	"github.com/hashicorp/consul/api"
)

// tagsOf returns the tags of instance n of a service with many.
func tagsOf(n int) []string {
	tags := make([]string, 2500)
	for i := range tags {
		tags[i] = fmt.Sprintf("urlprefix-h%d-%d.bench.test/p%d/", n, i/5, i%5)
	}
	return tags
}

// answerOf is an answer about instances with these tags.
func answerOf(tags ...[]string) []byte {
	var text bytes.Buffer
	for n, list := range tags {
		fmt.Fprintf(&text, `,{"Node":{"Node":"n","Address":"10.0.0.1","Datacenter":"dc1"},"Service":{"ID":"i-%d","Tags":["%s"],"Meta":{"a":"b"},"Port":1},"Checks":[{"CheckID":"c","Status":"passing"}]}`,
			n, strings.Join(list, `","`))
	}
	return append([]byte("["+strings.TrimPrefix(text.String(), ",")), ']', '\n')
}

func read(t testing.TB, e *Entries, content []byte) []*Entry {
	t.Helper()
	list, err := e.Read(bytes.NewReader(content), make([]byte, BufferSize))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAnInstanceThatIsAsItWasIsTheSameEntry(t *testing.T) {
	var e Entries
	one, two, three := tagsOf(1), tagsOf(2), tagsOf(3)
	before := read(t, &e, answerOf(one, two, three))
	changed := append([]string(nil), two...)
	changed[1000] = "urlprefix-other.test/"
	after := read(t, &e, answerOf(one, changed, three))
	if after[0] != before[0] || after[2] != before[2] {
		t.Error("instances that did not change are new entries")
	}
	if after[1] == before[1] || after[1].Tags[1000] != "urlprefix-other.test/" || before[1].Tags[1000] != two[1000] {
		t.Error("the instance that changed is not a new entry")
	}
}

func TestTagsThatDidNotChangeAreNotMadeAgain(t *testing.T) {
	tags := tagsOf(0)
	with := func(edit func([]string) []string) []string { return edit(append([]string(nil), tags...)) }
	for name, next := range map[string][]string{
		"one put in":    with(func(l []string) []string { return append(append(append([]string(nil), l[:7]...), "new"), l[7:]...) }),
		"one taken out": with(func(l []string) []string { return append(l[:7], l[8:]...) }),
		"one replaced":  with(func(l []string) []string { l[7] = "new"; return l }),
		"one more":      with(func(l []string) []string { return append(l, "new") }),
		"the last gone": with(func(l []string) []string { return l[:len(l)-1] }),
	} {
		var e Entries
		known := map[*byte]bool{}
		for _, tag := range read(t, &e, answerOf(tags))[0].Tags {
			known[unsafe.StringData(tag)] = true
		}
		got := read(t, &e, answerOf(next))[0].Tags
		if strings.Join(got, ",") != strings.Join(next, ",") {
			t.Errorf("%s: read wrongly", name)
		}
		made := 0
		for _, tag := range got {
			if !known[unsafe.StringData(tag)] {
				made++
			}
		}
		if made > 1 {
			t.Errorf("%s: %d texts were made", name, made)
		}
	}
}

func TestAnInstanceThatComesOrGoesLeavesTheOthersTheSame(t *testing.T) {
	answer := func(ids ...string) []byte {
		var list []string
		for _, id := range ids {
			node, id, _ := strings.Cut(id, "/")
			list = append(list, fmt.Sprintf(`{"Node":{"Node":%q},"Service":{"ID":%q,"Tags":["x"]},"Checks":[]}`, node, id))
		}
		return []byte("[" + strings.Join(list, ",") + "]")
	}
	var e Entries
	before := read(t, &e, answer("a/web", "b/web", "c/web"))
	after := read(t, &e, answer("b/web", "c/web"))
	if after[0] != before[1] || after[1] != before[2] {
		t.Error("those left are new entries after one has gone")
	}
	again := read(t, &e, answer("0/web", "b/web", "bb/web", "c/web"))
	if again[1] != after[0] || again[3] != after[1] {
		t.Error("those left are new entries after others have come")
	}
}

// TestAnAnswerWithoutNewsCostsNoGarbage has room for the list and the reader, and none
// for the 10,000 tags.
func TestAnAnswerWithoutNewsCostsNoGarbage(t *testing.T) {
	var e Entries
	content := answerOf(tagsOf(1), tagsOf(2), tagsOf(3), tagsOf(4))
	buffer := make([]byte, BufferSize)
	source := bytes.NewReader(nil)
	n := testing.AllocsPerRun(20, func() {
		source.Reset(content)
		if _, err := e.Read(source, buffer); err != nil {
			t.Fatal(err)
		}
	})
	if n > 100 {
		t.Errorf("%.0f allocations for an answer of %d bytes, want at most 100", n, len(content))
	}
	names := Services{Prefix: "urlprefix-"}
	content = fmt.Appendf(nil, `{"web":["%s"]}`, strings.Join(tagsOf(1), `","`))
	n = testing.AllocsPerRun(20, func() {
		source.Reset(content)
		if _, _, err := names.Read(source, buffer); err != nil {
			t.Fatal(err)
		}
	})
	if n > 20 {
		t.Errorf("%.0f allocations for a list of services of %d bytes, want at most 20", n, len(content))
	}
}

func TestAnAnswerThatBreaksOffIsRefusedWhereverThatIs(t *testing.T) {
	whole := []byte("[" + sampleEntry + "]")
	for n := range whole {
		var e Entries
		if list, err := e.Read(bytes.NewReader(whole[:n]), nil); err == nil {
			t.Fatalf("%d of %d bytes are read as %s", n, len(whole), show(list))
		}
	}
	broken := errors.New("connection lost")
	var e Entries
	if _, err := e.Read(io.MultiReader(bytes.NewReader(whole[:50]), iotest.ErrReader(broken)), nil); !errors.Is(err, broken) {
		t.Errorf("got %v, want why it could not be read", err)
	}
}

func TestWhetherChecksPassIsWhatTheAPISays(t *testing.T) {
	states := []string{"", "passing", "warning", "critical", "maintenance"}
	ids := []string{"a", api.NodeMaint, api.ServiceMaintPrefix + "web", "_service_maintenance"}
	for _, first := range states {
		for _, second := range states {
			for _, id := range ids {
				checks := api.HealthChecks{{CheckID: "serfHealth", Status: first}, {CheckID: id, Status: second}}
				content := fmt.Appendf(nil, `[{"Node":{},"Service":{},"Checks":[{"CheckID":"serfHealth","Status":%q},{"Status":%q,"CheckID":%q}]}]`, first, second, id)
				var e Entries
				if got, want := read(t, &e, content)[0].Passing, checks.AggregatedStatus() == api.HealthPassing; got != want {
					t.Errorf("%s: passing %t, want %t", content, got, want)
				}
			}
		}
	}
}

func BenchmarkReadTenThousandTags(b *testing.B) {
	var e Entries
	content := answerOf(tagsOf(1), tagsOf(2), tagsOf(3), tagsOf(4))
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		read(b, &e, content)
	}
}
