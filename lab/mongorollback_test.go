package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func temporaryLayout(t *testing.T) Layout {
	t.Helper()
	layout, err := NewLayout(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return layout
}

// keepSalvaged writes a list of salvaged operations as `mongo readmit` does.
func keepSalvaged(t *testing.T, r rollbackFolder, node string, second int64, lines ...string) {
	t.Helper()
	file, err := r.create(node, time.Unix(second, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(strings.Join(lines, "\n")); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// recalled are the ids that a drill knows from earlier runs, with the members.
func recalled(t *testing.T, layout Layout) []string {
	t.Helper()
	d := &drill{Supervisor: &Supervisor{layout: layout}}
	if _, err := d.recall(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, u := range d.lost.operations {
		if !u.Before {
			t.Errorf("%+v is not marked as from before", u)
		}
		ids = append(ids, u.ID+" "+strings.Join(u.Nodes, ","))
	}
	return ids
}

const complete = `{"complete":true}`

func TestWhatAnInterruptedReadmitHasFoundIsNamedAgainByTheNext(t *testing.T) {
	layout := temporaryLayout(t)
	r := rollbackFolder{layout.Rollback()}
	if ids := recalled(t, layout); len(ids) > 0 {
		t.Errorf("of no folder: %q", ids)
	}
	keepSalvaged(t, r, "mongo-1", 1, `{"operation":"insert","ns":"blog.posts","id":{"$oid":"a"}}`, `{"operation":"insert","ns":"blog.posts","id":7}`, complete)
	// mongo-2 was interrupted in the middle, and mongod had rolled something back before.
	keepSalvaged(t, r, "mongo-2", 2, `{"operation":"insert","ns":"blog.posts","id":7}`, `{"operation":"insert","ns":"blog.posts","id":8}`, `{"operati`)
	document, err := bson.Marshal(bson.D{{Key: "_id", Value: "mine"}})
	if err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(t.TempDir(), "6ba7b810-9dad", "removed.2026-11-26.bson")
	if err := os.Mkdir(filepath.Dir(theirs), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(theirs, document, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.keep("mongo-2", theirs); err != nil {
		t.Fatal(err)
	}
	want := []string{`{"$oid":"a"} mongo-1`, `7 mongo-1,mongo-2`, `8 mongo-2`, `"mine" mongo-2`}
	if got := recalled(t, layout); !slices.Equal(got, want) {
		t.Errorf("recalled %q, want %q", got, want)
	}
	if err := r.markTold(); err != nil {
		t.Fatal(err)
	}
	if got := recalled(t, layout); len(got) > 0 {
		t.Errorf("what a complete readmit has named is no news: %q", got)
	}
	keepSalvaged(t, r, "mongo-1", 3, `{"operation":"update","ns":"blog.posts","id":9}`, complete)
	if got := recalled(t, layout); !slices.Equal(got, []string{"9 mongo-1"}) {
		t.Errorf("recalled %q, want what came later", got)
	}
}

func TestAnOperationThatIsFoundAgainIsNamedOnceAndStaysFromBefore(t *testing.T) {
	layout := temporaryLayout(t)
	keepSalvaged(t, rollbackFolder{layout.Rollback()}, "mongo-1", 1, `{"operation":"insert","ns":"blog.posts","id":7}`)
	d := &drill{Supervisor: &Supervisor{layout: layout}}
	if _, err := d.recall(); err != nil {
		t.Fatal(err)
	}
	d.lost.add("mongo-1", UndoneOperation{Operation: "insert", Namespace: "blog.posts", ID: "7"})
	d.lost.add("mongo-1", UndoneOperation{Operation: "insert", Namespace: "blog.posts", ID: "8"})
	if got := d.lost.operations; len(got) != 2 || !got[0].Before || got[1].Before || len(got[0].Nodes) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestALiveListOfSalvagedOperationsMustBeComplete(t *testing.T) {
	if err := readSalvaged(strings.NewReader(`{"operation":"insert","ns":"a.b","id":1}`), func(UndoneOperation) {}); err == nil {
		t.Error("a list without its end is taken for complete")
	}
}
