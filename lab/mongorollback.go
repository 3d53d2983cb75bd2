package lab

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// UndoneOperation is one operation that was acknowledged, or under way, on the side
// that lost its votes, and that the set does not have.
type UndoneOperation struct {
	// Nodes are the members that had it.
	Nodes     []string `json:"nodes"`
	Operation string   `json:"operation"`
	Namespace string   `json:"namespace"`
	// ID is the document's _id, in MongoDB Extended JSON.
	ID string `json:"id"`
	// Before says that it was found by an earlier readmit, which did not end.
	Before bool `json:"from_before,omitempty"`
}

// undone are operations, each once for all members that had it.
type undone struct {
	operations []UndoneOperation
	seen       map[[3]string]int
}

// add notes that a member had an operation.
func (l *undone) add(node string, u UndoneOperation) {
	key := [3]string{u.Operation, u.Namespace, u.ID}
	if i, known := l.seen[key]; known {
		if nodes := l.operations[i].Nodes; !slices.Contains(nodes, node) {
			l.operations[i].Nodes = append(nodes, node)
		}
		return
	}
	if l.seen == nil {
		l.seen = map[[3]string]int{}
	}
	l.seen[key] = len(l.operations)
	u.Nodes = []string{node}
	l.operations = append(l.operations, u)
}

// rollbackFolder is where what has to be undone is kept, below a folder for each member:
// mongod's own rollback files as mongod names them, COLLECTION/removed.TIME.bson, and
// what was salvaged, TIME.ndjson. The files that a readmit has named which came to its
// end are listed in a file beside them.
type rollbackFolder struct{ root string }

func (d *drill) rollback() rollbackFolder { return rollbackFolder{d.layout.Rollback()} }

// toldFile lists the files whose operations somebody was told of, one a line.
const toldFile = "told"

// create makes the file for what is salvaged from a member.
func (r rollbackFolder) create(node string, now time.Time) (*os.File, error) {
	if err := os.MkdirAll(filepath.Join(r.root, node), 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(r.root, node, now.UTC().Format("20060102T150405.000Z")+".ndjson")
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
}

// keep moves a rollback file of a member's mongod here.
func (r rollbackFolder) keep(node, path string) error {
	folder := filepath.Join(r.root, node, filepath.Base(filepath.Dir(path)))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	return os.Rename(path, filepath.Join(folder, filepath.Base(path)))
}

// files are all that are kept, relative to the folder.
func (r rollbackFolder) files() ([]string, error) {
	var files []string
	err := filepath.WalkDir(r.root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && (entry.IsDir() || path == filepath.Join(r.root, toldFile)) {
			return nil
		}
		if err != nil {
			return err
		}
		if filepath.Dir(path) == filepath.Clean(r.root) {
			return nil // of no member: what a note was being written as, or an earlier version left
		}
		below, err := filepath.Rel(r.root, path)
		files = append(files, below)
		return err
	})
	return files, err
}

// untold are the files that no readmit has named which came to its end.
func (r rollbackFolder) untold() ([]string, error) {
	files, err := r.files()
	if err != nil {
		return nil, err
	}
	told, err := os.ReadFile(filepath.Join(r.root, toldFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names := strings.Split(string(told), "\n")
	return slices.DeleteFunc(files, func(file string) bool { return slices.Contains(names, file) }), nil
}

// markTold notes that what all files hold has been named.
func (r rollbackFolder) markTold() error {
	files, err := r.files()
	if err != nil || len(files) == 0 {
		return err
	}
	return writeSecret(filepath.Join(r.root, toldFile), []byte(strings.Join(files, "\n")+"\n"))
}

// read adds what a file of the folder holds, as found before. A list of salvaged
// operations that is cut short counts as far as it goes: its member still has its data,
// and is salvaged again.
func (r rollbackFolder) read(below string, into *undone) error {
	file, err := os.Open(filepath.Join(r.root, below))
	if err != nil {
		return err
	}
	defer file.Close()
	node, _, _ := strings.Cut(below, string(filepath.Separator))
	add := func(u UndoneOperation) {
		u.Before = true
		into.add(node, u)
	}
	if filepath.Ext(below) == ".ndjson" {
		if err = readSalvaged(file, add); errors.Is(err, errCutShort) {
			err = nil
		}
		return err
	}
	return readRollback(file, filepath.Base(filepath.Dir(below)), add)
}

// recall takes what earlier runs have kept that did not end, and returns the files.
func (d *drill) recall() ([]string, error) {
	files, err := d.rollback().untold()
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if err := d.rollback().read(file, &d.lost); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return files, nil
}

// keepRolledBack notes what mongod's own rollback files hold, and keeps them beside what
// is salvaged: the member's data may be deleted.
func (d *drill) keepRolledBack(n *node) error {
	folder := filepath.Join(d.layout.Data(n.node.Name, processMongod), "rollback")
	files, err := filepath.Glob(filepath.Join(folder, "*", "removed.*.bson"))
	if err != nil || len(files) == 0 {
		return err
	}
	for _, path := range files {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		err = readRollback(file, filepath.Base(filepath.Dir(path)), func(u UndoneOperation) { d.lost.add(n.node.Name, u) })
		if err = errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if err := d.rollback().keep(n.node.Name, path); err != nil {
			return fmt.Errorf("keep %s: %w", path, err)
		}
	}
	d.say("%s has rolled back by itself; the documents are in %s", n.node.Name, filepath.Join(d.layout.Rollback(), n.node.Name))
	return nil
}

// readRollback reads a rollback file: documents, one after the other (MongoDB manual,
// "Rollbacks During Replica Set Failover"). It is named after the collection's UUID.
func readRollback(from io.Reader, collection string, each func(UndoneOperation)) error {
	in := bufio.NewReader(from)
	for {
		document, err := bson.ReadDocument(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		each(UndoneOperation{Operation: "removed", Namespace: "collection " + collection, ID: document.Lookup("_id").String()})
	}
}

// errCutShort means that a list of salvaged operations does not say that it is complete.
var errCutShort = errors.New("the list of operations is cut short")

// readSalvaged reads the operations of a file; one that does not say that it is
// complete is an error.
func readSalvaged(from io.Reader, each func(UndoneOperation)) error {
	decoder := json.NewDecoder(from)
	for {
		var line struct {
			Complete  bool            `json:"complete"`
			Operation string          `json:"operation"`
			Namespace string          `json:"ns"`
			ID        json.RawMessage `json:"id"`
		}
		if err := decoder.Decode(&line); err != nil {
			return fmt.Errorf("%w: %w", errCutShort, err)
		}
		if line.Complete {
			return nil
		}
		each(UndoneOperation{Operation: line.Operation, Namespace: line.Namespace, ID: string(line.ID)})
	}
}

// shownIDs is how many documents are named one by one to a person; the files have all.
const shownIDs = 10

// tellUndone names the first documents to a person.
func (d *drill) tellUndone() {
	for i, u := range d.lost.operations {
		if i == shownIDs {
			d.say("undone: and %d more; -o json lists all", len(d.lost.operations)-shownIDs)
			return
		}
		before := ""
		if u.Before {
			before = " (from before: an earlier readmit found it, and did not end)"
		}
		d.say("undone: %s in %s, _id %s%s", u.Operation, u.Namespace, u.ID, before)
	}
}
