// Package failover measures what a failover costs those who write: how long no
// write is acknowledged, how many are told of an error, and whether one that was
// acknowledged is lost.
//
// A row is a fault with its bar. Each run of a row begins with a healthy set and
// a ledger at a fixed rate, makes the fault, waits until writes are acknowledged
// again, heals, waits for health and checks the ledger.
package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/drills/rig"
)

// Row is one fault.
type Row struct {
	// Name selects the row; Title is what people read.
	Name, Title string
	// Before are steps that are no part of the fault, done while writes go on.
	Before []string
	// Do are the steps of the fault; see rig.Rig.Do. PRIMARY, NEXT and THIRD are the
	// members' nodes, the next in line first.
	Do []string
	// Hold is how long the fault lasts at least, Undo what ends it. The default is
	// "fault heal --all".
	Hold time.Duration
	Undo []string
	// Median and Longest are the bars; 0 is none. Back is the bar for the time
	// without an acknowledged write around the undoing.
	Median, Longest, Back time.Duration
	// Also are further ways of writing beside those of every row.
	Also []Way
	// Documented rows have no bar for time and errors: only for what is lost.
	Documented bool
}

// Rows returns every row, in the order in which they are run and shown.
func Rows() []Row {
	return slices.Concat(crashes(), cuts(), planned(), troubles())
}

const ms = time.Millisecond

// crashes are what happens to a process.
func crashes() []Row {
	return []Row{
		{
			Name: "kill-mongod", Title: "SIGKILL of the primary's mongod", Do: []string{"fault kill PRIMARY/mongod"},
			Hold: 4 * time.Second, Median: 100 * ms, Longest: 400 * ms,
		},
		{
			Name: "stop-mongod", Title: "SIGSTOP of the primary's mongod, then SIGCONT", Do: []string{"fault stop PRIMARY/mongod"},
			Hold: 6 * time.Second, Undo: []string{"fault cont PRIMARY/mongod"}, Median: 250 * ms, Longest: 800 * ms, Back: 100 * ms,
			// Whatever the thawed primary acknowledges to it would be lost.
			Also: []Way{{Via: "port", Rate: 50, WriteConcern: "1"}},
		},
		{
			Name: "kill-agent", Title: "SIGKILL of the primary's mongo-agent", Do: []string{"fault kill PRIMARY/mongo-agent"},
			Hold: 6 * time.Second, Median: 700 * ms, Longest: 1500 * ms,
		},
		{
			Name: "stop-agent", Title: "SIGSTOP of the primary's mongo-agent", Do: []string{"fault stop PRIMARY/mongo-agent"},
			Hold: 6 * time.Second, Median: 700 * ms, Longest: 1500 * ms,
		},
	}
}

// cuts are what happens to a node's link.
func cuts() []Row {
	return []Row{
		{
			Name: "cut", Title: "the primary's node cut off, silently", Do: []string{"fault cut PRIMARY"},
			Hold: 8 * time.Second, Median: 1500 * ms, Longest: 3 * time.Second,
		},
		{
			Name: "cut-in", Title: "one-way cut: the primary's node hears nothing", Do: []string{"fault cut PRIMARY --direction in"},
			Hold: 8 * time.Second, Median: 3 * time.Second, Longest: 5 * time.Second,
		},
		{
			Name: "cut-out", Title: "one-way cut: the primary's node is not heard", Do: []string{"fault cut PRIMARY --direction out"},
			Hold: 8 * time.Second, Median: 3 * time.Second, Longest: 5 * time.Second,
		},
	}
}

// planned is what somebody wants.
func planned() []Row {
	return []Row{
		{
			Name: "stepdown", Title: "`sluice mongo stepdown`", Do: []string{"mongo stepdown"},
			Hold: 3 * time.Second, Median: 80 * ms, Longest: 300 * ms,
		},
		{
			Name: "term-mongod", Title: "SIGTERM of the primary's mongod", Do: []string{"fault term PRIMARY/mongod"},
			Hold: 5 * time.Second, Median: 80 * ms, Longest: 300 * ms,
		},
		{
			Name: "term-agent", Title: "SIGTERM of the primary's mongo-agent", Do: []string{"fault term PRIMARY/mongo-agent"},
			Hold: 7 * time.Second, Median: 80 * ms, Longest: 300 * ms,
		},
		{Name: "rolling", Title: "rolling restart of all members and agents", Do: []string{"mongo rolling-restart"}, Hold: time.Second, Median: 80 * ms, Longest: 300 * ms},
	}
}

// troubles are what comes together, and what happens to a machine.
func troubles() []Row {
	return []Row{
		{
			Name: "consul-down", Title: "SIGKILL of the primary's mongod while Consul's server is dead for 20 s",
			Do:   []string{"fault kill consul-1/consul", "wait 2s", "fault kill PRIMARY/mongod"},
			Hold: 18 * time.Second,
		},
		{
			Name: "clock-ahead", Title: "the next primary's clock is 1 h ahead, and it takes over", Before: []string{"fault clock NEXT --ahead 1h", "healthy"},
			Do: []string{"mongo stepdown --to NEXT"}, Hold: 5 * time.Second, Documented: true,
		},
		{
			Name: "clock-behind", Title: "the next primary's clock is 1 h behind, and it takes over", Before: []string{"fault clock NEXT --behind 1h", "healthy"},
			Do: []string{"mongo stepdown --to NEXT"}, Hold: 5 * time.Second, Documented: true,
		},
		{
			Name: "disk-full", Title: "the primary's disk is full", Do: []string{"fault disk PRIMARY full"},
			Hold: 10 * time.Second, Documented: true,
		},
		{
			Name: "disk-stall", Title: "the primary's fsync stalls", Do: []string{"fault disk PRIMARY stall"},
			Hold: 10 * time.Second, Documented: true,
		},
	}
}

// The words of a step that stand for a node.
const (
	primary = "PRIMARY"
	next    = "NEXT"
	third   = "THIRD"
)

// named puts the nodes into a step.
func named(step string, h rig.Health) string {
	return strings.NewReplacer(primary, h.Primary, next, h.Others[0], third, h.Others[1]).Replace(step)
}

// undo is what ends the row's fault.
func (r Row) undo() []string {
	if len(r.Undo) > 0 {
		return r.Undo
	}
	return []string{"fault heal --all"}
}

// Select returns the rows of these names, in their own order; no names are all
// rows.
func Select(names []string) ([]Row, error) {
	rows := Rows()
	if len(names) == 0 {
		return rows, nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(rows, func(r Row) bool { return r.Name == name }) {
			return nil, fmt.Errorf("no row %q; there are %s", name, strings.Join(Names(), ", "))
		}
	}
	return slices.DeleteFunc(rows, func(r Row) bool { return !slices.Contains(names, r.Name) }), nil
}

// Names are the names of all rows.
func Names() []string {
	var names []string
	for _, row := range Rows() {
		names = append(names, row.Name)
	}
	return names
}
