package lab

import (
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
	steps, err := s.composeFault(request)
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
