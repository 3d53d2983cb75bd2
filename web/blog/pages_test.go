package blog_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"

	"sluice/web/blog"
)

// finds remembers the newest query that was sent.
type finds struct {
	mu     sync.Mutex
	newest bson.D
}

func (f *finds) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if e.CommandName != "find" {
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.newest = nil
		_ = bson.Unmarshal(e.Command, &f.newest)
	}, Succeeded: func(context.Context, *event.CommandSucceededEvent) {}, Failed: func(context.Context, *event.CommandFailedEvent) {}}
}

// examined is how many documents and keys the database looks at for the newest query.
func (f *finds) examined(t *testing.T, l *lab) (documents, keys int64) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var find bson.D
	for _, e := range f.newest {
		if strings.Contains(" find filter sort skip limit ", " "+e.Key+" ") {
			find = append(find, e)
		}
	}
	answer, err := l.system.Database("blog").RunCommand(t.Context(), bson.D{{Key: "explain", Value: find}, {Key: "verbosity", Value: "executionStats"}}).Raw()
	if err != nil {
		t.Fatal(err)
	}
	stats := answer.Lookup("executionStats")
	return stats.Document().Lookup("totalDocsExamined").AsInt64(), stats.Document().Lookup("totalKeysExamined").AsInt64()
}

// deepPages walks through 10,000 entries there and back, half of which were made at
// the same moment.
func deepPages(t *testing.T, l *lab) {
	const entries, size = 10_000, 20
	many := make([]any, entries)
	for i := range many {
		e := post(200_000+min(i, entries/2), fmt.Sprintf("deep-%d", i))
		e.ID, e.Blog, e.Title = fmt.Sprintf("deep-%05d", i), "deep", fmt.Sprint(i)
		many[i] = e
	}
	patient, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := l.system.Database("blog").Collection("entries").InsertMany(patient, many); err != nil {
		t.Fatal(err)
	}
	asked := &finds{}
	store := l.open(blog.Config{Commands: asked.monitor()})
	query := blog.Query{Blog: "deep", Limit: size}
	read := func(number int) blog.Page {
		page, err := store.Entries(t.Context(), query)
		if err != nil || len(page.Entries) != size {
			t.Fatalf("page %d: %d entries, %v", number, len(page.Entries), err)
		}
		for i, e := range page.Entries {
			if want := fmt.Sprint(entries - 1 - number*size - i); e.Title != want {
				t.Fatalf("page %d: entry %d is %s, want %s", number, i, e.Title, want)
			}
		}
		if number%83 == 0 || number == entries/size-1 {
			const most = 2 * (size + 1) // each of the two ranges, up to the page's end
			if documents, keys := asked.examined(t, l); documents > most || keys > most {
				t.Errorf("page %d (%+v): the database looks at %d documents and %d keys for %d entries", number, query, documents, keys, size)
			}
		}
		return page
	}
	last := entries/size - 1
	for number := 0; number <= last; number++ {
		page := read(number)
		if page.More != (number < last) || page.Newer != (number > 0) {
			t.Errorf("page %d: more %v, newer %v", number, page.More, page.Newer)
		}
		mark := page.Entries[size-1].Mark()
		query.Before = &mark
	}
	mark := blog.Mark{Created: many[size-1].(blog.Entry).Created, ID: many[size-1].(blog.Entry).ID}
	query.Before, query.After = nil, &mark
	for number := last - 1; number >= 0; number-- {
		page := read(number)
		if !page.More || page.Newer != (number > 0) {
			t.Errorf("back at page %d: more %v, newer %v", number, page.More, page.Newer)
		}
		mark = page.Entries[0].Mark()
	}
}
