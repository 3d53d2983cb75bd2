package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"sluice/lab/control"
)

// MongoAction is what a drill does.
type MongoAction string

// The drills, by the verbs of the command line.
const (
	MongoShow    MongoAction = "status"
	MongoStep    MongoAction = "stepdown"        // the primary hands over
	MongoFreeze  MongoAction = "freeze"          // the member does not stand for election for a time
	MongoResync  MongoAction = "resync"          // the member starts empty and copies everything
	MongoRolling MongoAction = "rolling-restart" // every member is restarted, one after another
	MongoPromote MongoAction = "promote"         // the members of one datacenter go on without a majority
	MongoReadmit MongoAction = "readmit"         // those that lost their votes by that get them back
)

// MongoRequest asks for a drill.
type MongoRequest struct {
	Action MongoAction `json:"action"`
	// Node is the member; to whom a step-down hands over, where it says.
	Node string `json:"node,omitempty"`
	// Datacenter is whose members are promoted.
	Datacenter string `json:"datacenter,omitempty"`
	// For is how long a freeze lasts; 0 ends it.
	For time.Duration `json:"for,omitempty"`
	// What a rolling restart restarts: mongod, mongo-agent or all.
	What   string `json:"what,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// MongoResult is how a drill went.
type MongoResult struct {
	Done []string `json:"done"`
	// Planned is what would have been done, in a dry run.
	Planned []string `json:"planned,omitempty"`
	// AtStake is what a promotion could have cost, as far as it was known before.
	AtStake *AtStake `json:"at_stake,omitempty"`
	// Undone are the operations that a promotion has cost, those of each document once.
	Undone []UndoneOperation `json:"undone,omitempty"`
	// Primary and Term are those after the drill.
	Primary string  `json:"primary,omitempty"`
	Term    int64   `json:"term,omitempty"`
	Seconds float64 `json:"seconds"`
}

// MongoEvent tells how a drill goes on.
type MongoEvent struct {
	Text string `json:"text"`
}

// drill is one drill at work.
type drill struct {
	*Supervisor
	call   *control.Call
	result MongoResult
	// lost are the operations that were undone.
	lost undone
}

func (s *Supervisor) handleMongo(ctx context.Context, call *control.Call) error {
	var request MongoRequest
	if err := call.Decode(&request); err != nil {
		return err
	}
	if len(s.with("mongo")) == 0 {
		return fail(control.ExitUsage, "", "this lab has no replica set")
	}
	if request.Action == MongoShow {
		return call.Result(s.mongoStatus(ctx))
	}
	if request.Action == MongoPromote || request.Action == MongoReadmit {
		s.changing.Lock() // no datacenter comes or goes meanwhile
		defer s.changing.Unlock()
	}
	d := &drill{Supervisor: s, call: call, result: MongoResult{Done: []string{}}}
	began := time.Now()
	if err := d.run(ctx, request); err != nil {
		s.log.Warn("drill", "action", request.Action, "node", request.Node, "done", d.result.Done, "err", err)
		return err
	}
	s.log.Info("drill", "action", request.Action, "node", request.Node, "done", d.result.Done, "planned", d.result.Planned)
	status := s.mongoStatus(ctx)
	d.result.Undone = d.lost.operations
	d.result.Primary, d.result.Term, d.result.Seconds = status.Primary, status.Term, time.Since(began).Seconds()
	return call.Result(d.result)
}

func (d *drill) run(ctx context.Context, request MongoRequest) error {
	switch request.Action {
	case MongoStep:
		return d.stepDown(ctx, request)
	case MongoFreeze:
		return d.freeze(ctx, request)
	case MongoResync:
		return d.resync(ctx, request)
	case MongoRolling:
		return d.rolling(ctx, request)
	case MongoPromote:
		return d.promote(ctx, request)
	case MongoReadmit:
		return d.readmit(ctx, request)
	case MongoShow:
	}
	return fail(control.ExitUsage, "sluice mongo --help", "unknown drill %q", request.Action)
}

// say tells the client, and keeps it for the result.
func (d *drill) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	d.result.Done = append(d.result.Done, text)
	_ = d.call.Progress(MongoEvent{Text: text}) // a client that is gone ends the call's context
}

func (d *drill) plan(format string, args ...any) {
	d.result.Planned = append(d.result.Planned, fmt.Sprintf(format, args...))
}

// member returns the node of a member of the set.
func (d *drill) member(name string) (*node, error) {
	var known []string
	for _, n := range d.with("mongo") {
		if n.node.Name == name {
			return n, nil
		}
		known = append(known, n.node.Name)
	}
	return nil, fail(control.ExitUsage, "members: "+joinWords(known), "no member %q", name)
}

// refusal gives what an agent said its exit code.
func refusal(what string, err error) error {
	switch {
	case errors.Is(err, errAgentRefused):
		return fail(exitRefused, "sluice mongo status", "%s: %v", what, err)
	case errors.Is(err, errAgentCannot):
		return fail(2, "make build, then sluice down and sluice up", "%s: %v", what, err)
	default:
		return fail(2, "sluice mongo status", "%s: %v", what, err)
	}
}

// exitRefused is the exit code of a drill that would do harm: a clear no.
const exitRefused = 1

// stepDown makes the primary hand over, and waits until another member has taken
// over in the eyes of its own agent.
func (d *drill) stepDown(ctx context.Context, request MongoRequest) error {
	status := d.mongoStatus(ctx)
	if status.Primary == "" {
		return fail(exitRefused, "sluice mongo status", "stepdown: there is no primary")
	}
	if request.Node == status.Primary {
		return fail(exitRefused, "sluice mongo stepdown    (to whoever is next)", "stepdown: %s is primary already", request.Node)
	}
	if request.Node != "" {
		if _, err := d.member(request.Node); err != nil {
			return err
		}
	}
	to := request.Node
	if to == "" {
		to = "whoever is next"
	}
	if request.DryRun {
		d.plan("%s would hand over to %s", status.Primary, to)
		return nil
	}
	return d.handOver(ctx, status.Primary, request.Node)
}

// handOver asks a primary to hand over and waits for the next one.
func (d *drill) handOver(ctx context.Context, from, to string) error {
	n, err := d.member(from)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := d.agentOps(n).handOver(ctx, to); err != nil {
		return refusal("stepdown of "+from, err)
	}
	next := ""
	err = waitFor(ctx, "another member is primary", func(ctx context.Context) error {
		status := d.mongoStatus(ctx)
		if status.Primary == "" || status.Primary == from {
			return fmt.Errorf("the primary is %q", status.Primary)
		}
		next = status.Primary
		return nil
	})
	if err != nil {
		return fail(2, "sluice mongo status", "stepdown of %s: %v", from, err)
	}
	d.say("%s handed over to %s, %.0f ms", from, next, float64(time.Since(began).Microseconds())/1000)
	return nil
}

func (d *drill) freeze(ctx context.Context, request MongoRequest) error {
	n, err := d.member(request.Node)
	if err != nil {
		return err
	}
	if request.For < 0 || request.For > 24*time.Hour || request.For%time.Second != 0 {
		return fail(control.ExitUsage, "sluice mongo freeze NODE --for 60s", "freeze for %s: want whole seconds, at most 24h", request.For)
	}
	text := fmt.Sprintf("%s does not stand for election for %s", request.Node, request.For)
	if request.For == 0 {
		text = request.Node + " may stand for election again"
	}
	if request.DryRun {
		d.plan("%s", text)
		return nil
	}
	if err := d.agentOps(n).freeze(ctx, request.For); err != nil {
		return refusal("freeze of "+request.Node, err)
	}
	d.say("%s", text)
	return nil
}

// resync makes a member start empty. It is refused where the set would not bear
// it: of the primary, and where too few members would be left to keep a majority.
func (d *drill) resync(ctx context.Context, request MongoRequest) error {
	n, err := d.member(request.Node)
	if err != nil {
		return err
	}
	if err := mayResync(d.mongoStatus(ctx), request.Node); err != nil {
		return fail(exitRefused, "sluice mongo status", "resync of %s: %v", request.Node, err)
	}
	// An agent that is down or that does not answer has nothing against it: a member
	// in a bad way is what a resync is for.
	if err := d.agentOps(n).mayResync(ctx); errors.Is(err, errAgentRefused) {
		return refusal("resync of "+request.Node, err)
	}
	if request.DryRun {
		d.plan("%s would lose its data and copy it from another member", request.Node)
		return nil
	}
	began := time.Now()
	data := d.layout.Data(request.Node, processMongod)
	aside := data + ".before-resync"
	d.say("%s stops, and its data goes aside", request.Node)
	err = n.process(processMongod).RestartAfter(ctx, func() error {
		if err := os.RemoveAll(aside); err != nil {
			return fmt.Errorf("make room: %w", err)
		}
		if err := os.Rename(data, aside); err != nil {
			return fmt.Errorf("move the data aside: %w", err)
		}
		return os.Mkdir(data, 0o700)
	})
	if err != nil {
		return fail(2, "sluice mongo status", "resync of %s: %v", request.Node, err)
	}
	d.say("%s has started empty", request.Node)
	if err := d.awaitWhole(ctx, request.Node+" has copied everything"); err != nil {
		return fail(2, "sluice logs "+request.Node+"/mongod    (its old data is in "+aside+")", "resync of %s: %v", request.Node, err)
	}
	if err := os.RemoveAll(aside); err != nil {
		return fail(2, "", "resync of %s: it is done, but its old data is still in %s: %v", request.Node, aside, err)
	}
	d.say("%s is a secondary again, after %.1f s", request.Node, time.Since(began).Seconds())
	return nil
}

// mayResync says why a member must not start empty now; nil when it may.
func mayResync(status MongoStatus, name string) error {
	if status.Primary == "" {
		return errors.New("there is no primary to copy from")
	}
	if status.Primary == name {
		return errors.New("it is the primary; `sluice mongo stepdown` first")
	}
	left := 0
	for _, m := range status.Members {
		if m.Node == name && m.Role == rolePrimary {
			return errors.New("it says that it is primary")
		}
		if m.Node != name && (m.Role == rolePrimary || m.Role == roleSecondary) {
			left++
		}
	}
	if majority := len(status.Members)/2 + 1; left < majority {
		return fmt.Errorf("only %d of %d members would hold the data, and a majority is %d", left, len(status.Members), majority)
	}
	return nil
}

// awaitWhole waits until the set has a primary and every other member is its
// secondary.
func (d *drill) awaitWhole(ctx context.Context, what string) error {
	return waitFor(ctx, what, func(ctx context.Context) error { return healthySet(d.mongoStatus(ctx)) })
}

// handOverWait bounds the hand-over before a planned end of a mongod.
const handOverWait = 2 * time.Second

// partWell asks a primary to hand over before its mongod is ended on purpose. It
// does what can be done: a member that is not primary, or an agent that does not
// answer, is ended all the same.
func (s *Supervisor) partWell(ctx context.Context, n *node) {
	if state := n.process(processMongod).State(); !state.Running || state.Stopped {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverWait)
	defer cancel()
	if err := s.agentOps(n).handOver(ctx, ""); err != nil {
		s.log.Info("no hand-over before the end of a mongod", "node", n.node.Name, "err", err)
		return
	}
	s.log.Info("handed over before the end of a mongod", "node", n.node.Name)
}
