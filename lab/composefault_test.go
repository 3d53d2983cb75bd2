package lab

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"sluice/lab/engine"
)

// dockerSteps are the docker commands of a fault, with the service at the end.
func dockerSteps(t *testing.T, request FaultRequest) ([]string, error) {
	t.Helper()
	s, err := composeSupervisor(DefaultTopology(".."), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	steps, err := s.composeFault(request, nil, nil)
	var lines []string
	for _, step := range steps {
		lines = append(lines, strings.Join(append(append([]string{}, step.docker...), step.network, step.service), " "))
	}
	return lines, err
}

func TestAFaultInContainersIsWhatDockerCanDo(t *testing.T) {
	for _, c := range []struct {
		request FaultRequest
		want    string
	}{
		{FaultRequest{Action: FaultKill, Target: "web-1/web"}, "kill --signal KILL  web-1-web"},
		{FaultRequest{Action: FaultStop, Target: "mongo-1/mongod"}, "kill --signal STOP  mongo-1-mongod"},
		{FaultRequest{Action: FaultCont, Target: "web-1/consul"}, "kill --signal CONT  web-1"},
		// The agent's container holds the network of the others: it ends last, and they
		// start anew with it.
		{FaultRequest{Action: FaultKill, Target: "web-1"}, "kill --signal KILL  web-1-web|kill --signal KILL  web-1"},
		{FaultRequest{Action: FaultRestart, Target: "web-1/web"}, "restart --time 8  web-1-web"},
		{FaultRequest{Action: FaultRestart, Target: "gateway-1/consul"}, "restart --time 8  gateway-1|restart --time 8  gateway-1-gateway|restart --time 8  gateway-1-door"},
		{FaultRequest{Action: FaultCut, Target: "web-2"}, "network disconnect dc1 web-2|network disconnect dc2 web-2"},
		{FaultRequest{Action: FaultHeal, Target: "web-2"}, "network connect --ip 198.18.1.12 dc1 web-2|network connect --ip 198.18.2.140 dc2 web-2"},
	} {
		got, err := dockerSteps(t, c.request)
		if err != nil || strings.Join(got, "|") != c.want {
			t.Errorf("%s %s: %v, %v; want %s", c.request.Action, c.request.Target, got, err, c.want)
		}
	}
}

// A partition leaves each datacenter's own network as it is.
func TestACutDatacenterKeepsItsOwnNetwork(t *testing.T) {
	steps, err := dockerSteps(t, FaultRequest{Action: FaultCut, Target: "dc2"})
	if err != nil || len(steps) == 0 {
		t.Fatalf("%v, %v", steps, err)
	}
	for _, step := range steps {
		fields := strings.Fields(step)
		network, node := fields[2], fields[3]
		if own := map[bool]string{true: "dc2", false: "dc1"}[strings.Contains("consul-2 gateway-2 web-3 mongo-4 mongo-5", node)]; network == own {
			t.Errorf("%s is cut off from its own datacenter", node)
		}
	}
	if len(steps) != 12 {
		t.Errorf("%d links are cut, want that of each of 12 nodes to the other datacenter", len(steps))
	}
}

func TestAFaultThatDockerCannotMakeIsRefused(t *testing.T) {
	for _, request := range []FaultRequest{
		{Action: FaultDisk, Target: "mongo-1"},
		{Action: FaultClock, Target: "mongo-1"},
		{Action: FaultCut, Target: "web-1", Direction: engine.In},
		{Action: FaultKill, Target: "web-9"},
		{Action: FaultKill, Target: "web-1/mongod"},
	} {
		if steps, err := dockerSteps(t, request); err == nil {
			t.Errorf("%s %s: %v, want a refusal", request.Action, request.Target, steps)
		}
	}
}

// healed are the steps of a heal in containers that are as given, as "what".
func healed(t *testing.T, target string, containers []ComposeContainer, faults ...FaultRecord) []string {
	t.Helper()
	s, err := composeSupervisor(DefaultTopology(".."), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	steps, err := s.composeFault(FaultRequest{Action: FaultHeal, Target: target}, containers, faults)
	if err != nil {
		t.Fatal(err)
	}
	var whats []string
	for _, step := range steps {
		if step.network == "" {
			whats = append(whats, step.what)
		}
	}
	return whats
}

func TestHealingContainersUndoesWhatWasWrittenDownAndWhatIsDead(t *testing.T) {
	running := func(node, process string) ComposeContainer {
		return ComposeContainer{Node: node, Process: process, State: stateRunning}
	}
	dead := ComposeContainer{Node: "web-1", Process: "web", State: "exited"}
	both := []ComposeContainer{running("web-1", "consul"), dead, running("web-2", "consul"), running("web-2", "web")}
	stopped := FaultRecord{Action: FaultStop, Target: "web-2/web"}
	for name, c := range map[string]struct {
		target     string
		containers []ComposeContainer
		faults     []FaultRecord
		want       string
	}{
		"all":                       {"", both, []FaultRecord{stopped, {Action: FaultCut, Target: "dc2"}}, "healed dc2|restarted web-1-web|sent CONT to web-2/web"},
		"one process":               {"web-2/web", both, []FaultRecord{stopped}, "sent CONT to web-2/web"},
		"one node":                  {"web-1", both, []FaultRecord{stopped}, "restarted web-1-web"},
		"a datacenter":              {"dc1", both, []FaultRecord{stopped}, "restarted web-1-web|sent CONT to web-2/web"},
		"another datacenter":        {"dc2", both, []FaultRecord{stopped}, ""},
		"the agent with its node":   {"web-1", []ComposeContainer{{Node: "web-1", Process: "consul", State: "exited"}, dead}, nil, "restarted web-1|restarted web-1-web"},
		"written down and not made": {"web-2", both, []FaultRecord{{Action: FaultKill, Target: "web-2/web"}}, "restarted web-2-web"},
		"nothing ails":              {"web-2", both, nil, ""},
	} {
		if got := strings.Join(healed(t, c.target, c.containers, c.faults...), "|"); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestEveryFaultOfContainersIsWrittenDownBeforeAndStruckOutAfter(t *testing.T) {
	s, err := composeSupervisor(DefaultTopology(".."), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	book := faultBook{write: func([]byte) error { return nil }}
	for _, c := range []struct {
		request FaultRequest
		holds   string
	}{
		{FaultRequest{Action: FaultKill, Target: "web-1/web"}, "kill of web-1/web"},
		{FaultRequest{Action: FaultStop, Target: "web-2/web"}, "kill of web-1/web, stop of web-2/web"},
		{FaultRequest{Action: FaultCut, Target: "web-2"}, "kill of web-1/web, stop of web-2/web, cut both of web-2"},
		{FaultRequest{Action: FaultCut, Target: "dc2"}, "kill of web-1/web, stop of web-2/web, cut both of web-2, cut both of dc2"},
		{FaultRequest{Action: FaultCont, Target: "web-2/web"}, "kill of web-1/web, cut both of web-2, cut both of dc2"},
		{FaultRequest{Action: FaultRestart, Target: "web-1/web"}, "cut both of web-2, cut both of dc2"},
		{FaultRequest{Action: FaultHeal, Target: "dc2"}, "cut both of web-2"},
		{FaultRequest{Action: FaultHeal}, ""},
	} {
		steps, err := s.composeFault(c.request, nil, book.list())
		if err != nil {
			t.Fatal(err)
		}
		lab := &ComposeLab{supervisor: s, project: "none"}
		lab.faults.write = func([]byte) error { return nil }
		lab.faults.records = book.list()
		for _, step := range steps {
			writtenBefore := false
			do := func() error {
				writtenBefore = step.makes.Action == "" || lab.faults.has(step.makes.Action, step.makes.Target)
				return nil
			}
			if err := lab.takeBy(step, do); err != nil {
				t.Fatal(err)
			}
			if !writtenBefore {
				t.Errorf("%s was made before it was written down", step.what)
			}
		}
		book.records = lab.faults.list()
		var holds []string
		for _, fault := range book.list() {
			holds = append(holds, fault.String())
		}
		if got := strings.Join(holds, ", "); got != c.holds {
			t.Errorf("after %s %s: %q, want %q", c.request.Action, c.request.Target, got, c.holds)
		}
	}
}

func TestAFaultThatCannotBeWrittenDownIsNotMade(t *testing.T) {
	full := errors.New("no space")
	lab := &ComposeLab{}
	lab.faults.write = func([]byte) error { return full }
	made := false
	err := lab.takeBy(composeStep{makes: FaultRecord{Action: FaultKill, Target: "web-1/web"}}, func() error { made = true; return nil })
	if !errors.Is(err, full) || made {
		t.Errorf("made %t, %v", made, err)
	}
}

func TestASetHasGrownWhenEveryMemberVotes(t *testing.T) {
	members := make([]SetMember, 5)
	for name, c := range map[string]struct {
		report AgentReport
		want   bool
	}{
		"all five":                    {AgentReport{Voter: true, Peers: make([]PeerReport, 4)}, true},
		"as before":                   {AgentReport{Voter: true, Peers: make([]PeerReport, 2)}, false},
		"not in it, and asks all":     {AgentReport{Peers: make([]PeerReport, 4)}, false},
		"the others are, this is not": {AgentReport{Peers: make([]PeerReport, 3)}, false},
	} {
		if got := grown(c.report, members); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
