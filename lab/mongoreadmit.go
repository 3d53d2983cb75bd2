package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/lab/process"
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
}

// abortSignal ends a mongod that gives up by itself, as it does instead of undoing what
// a majority had acknowledged.
const abortSignal = "SIGABRT"

// shownIDs is how many documents are named one by one to a person; the files have all.
const shownIDs = 10

// rejoinWait is how long a member that was restarted has to follow the set, or to end
// because it cannot.
const rejoinWait = 20 * time.Second

// readmit gives the members that a promotion took the votes of theirs back, after it
// has kept what they have to undo.
func (d *drill) readmit(ctx context.Context, request MongoRequest) error {
	status := d.mongoStatus(ctx)
	if status.Primary == "" {
		return fail(exitRefused, "sluice mongo status", "readmit: there is no primary")
	}
	strays := voteless(status)
	for _, m := range strays {
		d.plan("%s would follow %s and get its vote back; it is %s now", m.Node, status.Primary, m.Role)
	}
	switch {
	case len(strays) == 0:
		d.plan("every member has its vote")
		if !request.DryRun {
			d.say("every member has its vote")
		}
		return nil
	case request.DryRun:
		return nil
	}
	d.result.Planned = nil
	for _, m := range strays {
		n, err := d.member(m.Node)
		if err != nil {
			return err
		}
		if err := d.followAgain(ctx, n); err != nil {
			return fail(2, "sluice logs "+m.Node+"/mongod", "readmit %s: %v", m.Node, err)
		}
	}
	d.tellUndone()
	if err := d.reshape(ctx, d.setMembers(d.with("mongo"))); err != nil {
		return fail(2, "sluice mongo status", "readmit: %v", err)
	}
	d.say("every member has its vote")
	return nil
}

// voteless are the members whom the primary's agent does not count.
func voteless(status MongoStatus) []MongoMember {
	counted := map[string]bool{status.Primary: true}
	for _, m := range status.Members {
		if m.Node == status.Primary {
			for _, peer := range m.Report.Peers {
				counted[peer.Node] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(status.Members), func(m MongoMember) bool { return counted[m.Node] })
}

// followAgain brings a member back to the set: as it is if it can roll back, else anew.
func (d *drill) followAgain(ctx context.Context, n *node) error {
	p := n.process(processMongod)
	if p == nil {
		return errors.New("it runs no mongod")
	}
	if !p.State().Running {
		if err := p.Restart(ctx); err != nil {
			return err
		}
	}
	follows, err := d.awaitFollowing(ctx, n, p)
	if err != nil {
		return err
	}
	if follows {
		return d.keepRolledBack(n)
	}
	if state := p.State(); state.Signal != abortSignal {
		return fmt.Errorf("mongod has ended, and not because it cannot roll back: %s", describeExit(state))
	}
	if err := d.keepRolledBack(n); err != nil {
		return err
	}
	d.say("%s cannot roll back by itself, because a majority had acknowledged what it has to undo", n.node.Name)
	if err := d.salvage(ctx, n); err != nil {
		return fmt.Errorf("keep what it has to undo: %w", err)
	}
	err = p.RestartAfter(ctx, func() error {
		data := d.layout.Data(n.node.Name, processMongod)
		if err := os.RemoveAll(data); err != nil {
			return err
		}
		return os.Mkdir(data, 0o700)
	})
	if err != nil {
		return err
	}
	if follows, err = d.awaitFollowing(ctx, n, p); err != nil || !follows {
		return errors.Join(err, errors.New("it does not follow the set, although it has started empty"))
	}
	d.say("%s has copied everything", n.node.Name)
	return nil
}

// awaitFollowing reports whether the member becomes a secondary that is not in the
// middle of a rollback; false means that its mongod has ended.
func (d *drill) awaitFollowing(ctx context.Context, n *node, p *process.Process) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, rejoinWait, fmt.Errorf("not within %s", rejoinWait))
	defer cancel()
	ended := errors.New("mongod has ended")
	since := 0
	err := waitFor(ctx, n.node.Name+" follows the set", func(ctx context.Context) error {
		if !p.State().Running {
			cancel()
			return ended
		}
		report, err := d.agentOps(n).report(ctx)
		if err != nil {
			return err
		}
		newest := newestTerm(d.mongoStatus(ctx))
		if newest == 0 {
			since = 0
			return errors.New("no primary says how far it is")
		}
		if report.Role != roleSecondary || report.OpTime.Term < newest {
			since = 0
			return fmt.Errorf("it is %s, in term %d of %d", report.Role, report.OpTime.Term, newest)
		}
		if since++; since < 3 {
			return errors.New("it has only just begun to")
		}
		return nil
	})
	if err != nil && !p.State().Running {
		return false, nil
	}
	return err == nil, err
}

// newestTerm is the term of the primary's newest operation; 0 while that is not known.
func newestTerm(status MongoStatus) int64 {
	for _, m := range status.Members {
		if m.Node == status.Primary {
			return m.OpTime.Term
		}
	}
	return 0
}

// keepRolledBack notes what mongod's own rollback files hold, and keeps them.
func (d *drill) keepRolledBack(n *node) error {
	folder := filepath.Join(d.layout.Data(n.node.Name, processMongod), "rollback")
	files, err := filepath.Glob(filepath.Join(folder, "*", "removed.*.bson"))
	if err != nil || len(files) == 0 {
		return err
	}
	if err := os.MkdirAll(d.layout.Rollback(), 0o700); err != nil {
		return err
	}
	for _, path := range files {
		collection := filepath.Base(filepath.Dir(path))
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		err = d.readRollback(n, collection, file)
		if err = errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		// Beside what is salvaged: the member's data may be deleted, and what was told
		// once is no news the next time.
		kept := filepath.Join(d.layout.Rollback(), n.node.Name+"-"+collection+"-"+filepath.Base(path))
		if err := os.Rename(path, kept); err != nil {
			return fmt.Errorf("keep %s: %w", path, err)
		}
	}
	d.say("%s has rolled back by itself; the documents are in %s", n.node.Name, d.layout.Rollback())
	return nil
}

// readRollback reads a rollback file: documents, one after the other (MongoDB manual,
// "Rollbacks During Replica Set Failover"). It is named after the collection's UUID.
func (d *drill) readRollback(n *node, collection string, from io.Reader) error {
	in := bufio.NewReader(from)
	for {
		document, err := bson.ReadDocument(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		d.undone(n.node.Name, "removed", "collection "+collection, document.Lookup("_id").String())
	}
}

// salvage writes what a member has and the set has not to a file, from a mongod that
// is started on its data for that alone.
func (d *drill) salvage(ctx context.Context, n *node) error {
	spec, address := d.planner.salvager(n.place)
	reader, err := process.Start(ctx, n.machine, spec)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Stop(context.WithoutCancel(ctx), stopGrace) }()
	err = waitFor(ctx, "its log can be read", func(ctx context.Context) error {
		if !reader.State().Running {
			return errors.New("the mongod that reads it has ended: " + describeExit(reader.State()))
		}
		var conn net.Conn
		if conn, err = n.machine.DialContext(ctx, "tcp", address.String()); err == nil {
			err = conn.Close()
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.layout.Rollback(), 0o700); err != nil {
		return err
	}
	path := filepath.Join(d.layout.Rollback(), n.node.Name+"-"+time.Now().UTC().Format("20060102T150405Z")+".ndjson")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := d.agentOps(n).salvage(ctx, address.String(), file); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	count, err := d.readSalvaged(n, file)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	d.say("%s had %d operations that the set has not; they are in %s", n.node.Name, count, path)
	return reader.Stop(ctx, stopGrace)
}

// readSalvaged notes the operations of a file; one that does not say that it is
// complete is an error.
func (d *drill) readSalvaged(n *node, from io.Reader) (count int, err error) {
	decoder := json.NewDecoder(from)
	for {
		var line struct {
			Complete  bool            `json:"complete"`
			Operation string          `json:"operation"`
			Namespace string          `json:"ns"`
			ID        json.RawMessage `json:"id"`
		}
		if err := decoder.Decode(&line); err != nil {
			return count, fmt.Errorf("the list of operations is cut short: %w", err)
		}
		if line.Complete {
			return count, nil
		}
		count++
		d.undone(n.node.Name, line.Operation, line.Namespace, string(line.ID))
	}
}

// undone notes that a member had an operation; each is noted once for all members.
func (d *drill) undone(node, operation, namespace, id string) {
	key := [3]string{operation, namespace, id}
	if i, known := d.seen[key]; known {
		if nodes := d.result.Undone[i].Nodes; !slices.Contains(nodes, node) {
			d.result.Undone[i].Nodes = append(nodes, node)
		}
		return
	}
	d.seen[key] = len(d.result.Undone)
	d.result.Undone = append(d.result.Undone, UndoneOperation{Nodes: []string{node}, Operation: operation, Namespace: namespace, ID: id})
}

// tellUndone names the first documents to a person.
func (d *drill) tellUndone() {
	for i, u := range d.result.Undone {
		if i == shownIDs {
			d.say("undone: and %d more; -o json lists all", len(d.result.Undone)-shownIDs)
			return
		}
		d.say("undone: %s in %s, _id %s", u.Operation, u.Namespace, u.ID)
	}
}
