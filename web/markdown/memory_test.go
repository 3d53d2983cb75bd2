package markdown

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestWhatIsRememberedIsWhatWouldBeMade(t *testing.T) {
	r := New()
	texts := []string{"", "# a", "# b", "*x* <script>", strings.Repeat("word ", 400)}
	for range 2 {
		for _, text := range texts {
			want, err := New().render(text)
			if got, failed := r.Render(text); got != want || failed != nil || err != nil {
				t.Errorf("%q: %q, want %q", text, got, want)
			}
			for _, limit := range []int{5, 280} {
				if got, want := r.Excerpt(text, limit), New().excerpt(text, limit); got != want {
					t.Errorf("%q, %d: %q, want %q", text, limit, got, want)
				}
			}
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var m memory
	large := strings.Repeat("x", maxMemory/4)
	for i := range 20 {
		m.put(question{limit: i}, large)
		if m.bytes > maxMemory {
			t.Fatalf("%d bytes after %d texts", m.bytes, i+1)
		}
		if _, ok := m.get(question{limit: i}); !ok {
			t.Errorf("the newest text is not remembered")
		}
	}
	if _, ok := m.get(question{limit: 0}); ok {
		t.Error("everything is remembered")
	}
}

func TestMemoryIsSafeForConcurrentUse(t *testing.T) {
	r := New()
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for j := range 200 {
				text := fmt.Sprintf("# %d", (i+j)%10)
				if html, err := r.Render(text); err != nil || !strings.Contains(string(html), text[2:]) {
					t.Errorf("%q: %q, %v", text, html, err)
				}
			}
		})
	}
	wait.Wait()
}
