package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/datacenters"
)

// FaultRecord is one fault that holds now.
type FaultRecord struct {
	Action FaultAction `json:"action"`
	// Target is the datacenter, NODE or NODE/PROCESS that it holds for.
	Target string `json:"target"`
	// Detail says more of it: a cut's direction, what ails a disk, how far a clock is off.
	Detail string    `json:"detail,omitempty"`
	Since  time.Time `json:"since"`
	// Until is when it heals by itself; zero when somebody has to heal it.
	Until time.Time `json:"until,omitzero"`
}

// String says it as `status` does: "cut in of mongo-1".
func (r FaultRecord) String() string {
	text := string(r.Action)
	if r.Detail != "" {
		text += " " + r.Detail
	}
	return text + " of " + r.Target
}

// faultBook keeps the faults that hold, in memory and in a file, so that a lab
// that ended in the middle of a fault tells which. A fault is written down before
// it is made: one that is on no list would never be healed. It may be used by
// several goroutines at once.
type faultBook struct {
	path string
	// write keeps the list elsewhere than in a file at path; nil is there.
	write func(content []byte) error

	mu      sync.Mutex
	records []FaultRecord
}

// add writes a fault down, in the place of the same fault of the same target.
func (b *faultBook) add(record FaultRecord) error {
	return b.change(func(records []FaultRecord) []FaultRecord {
		records = slices.DeleteFunc(records, func(r FaultRecord) bool {
			return r.Action == record.Action && r.Target == record.Target
		})
		return append(records, record)
	})
}

// remove strikes the faults of a target out that are one of actions.
func (b *faultBook) remove(target string, actions ...FaultAction) error {
	return b.change(func(records []FaultRecord) []FaultRecord {
		return slices.DeleteFunc(records, func(r FaultRecord) bool {
			return r.Target == target && slices.Contains(actions, r.Action)
		})
	})
}

func (b *faultBook) change(edit func([]FaultRecord) []FaultRecord) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	records := edit(slices.Clone(b.records))
	encoded, err := json.MarshalIndent(records, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the faults: %w", err)
	}
	write := b.write
	if write == nil {
		write = func(content []byte) error { return writeSecret(b.path, content) }
	}
	if err := write(encoded); err != nil {
		return fmt.Errorf("keep the list of faults: %w", err)
	}
	b.records = records
	return nil
}

// clear forgets the faults of the last lab: no fault outlives its supervisor.
func (b *faultBook) clear() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records = nil
	if err := os.Remove(b.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget the last lab's faults: %w", err)
	}
	return nil
}

// list returns the faults that hold, oldest first.
func (b *faultBook) list() []FaultRecord {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.records)
}

// has reports whether a target suffers from a fault.
func (b *faultBook) has(action FaultAction, target string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.records, func(r FaultRecord) bool { return r.Action == action && r.Target == target })
}

// forget strikes out every fault of a datacenter that has ended and of its nodes: there
// is nothing left to heal.
func (b *faultBook) forget(dc datacenters.Datacenter) error {
	return b.change(func(records []FaultRecord) []FaultRecord {
		return slices.DeleteFunc(records, func(r FaultRecord) bool {
			node, _, _ := strings.Cut(r.Target, "/")
			return node == dc.Name || slices.ContainsFunc(dc.Nodes, func(n datacenters.Node) bool { return n.Name == node })
		})
	})
}
