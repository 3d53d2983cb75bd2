package proofs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"sluice/lab"
)

// scanTimeout is how long a connection may take before it counts as impossible:
// a refusal in one machine takes microseconds.
const scanTimeout = 1500 * time.Millisecond

func (p *probe) scan(ctx context.Context) error {
	var wait sync.WaitGroup
	for _, address := range p.Scan {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, scanTimeout)
			defer cancel()
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err == nil {
				_ = c.Close()
			}
			p.say(event{Stream: address, Result: resultOf(err), Detail: textOf(err)})
		})
	}
	wait.Wait()
	return nil
}

// privatePorts are what a process keeps to its own node: mongod, the agent's HTTP
// and DNS, and the operations endpoints of web, mongo-agent and gateway.
func privatePorts() []string {
	return []string{"27017", "8500", "53", "8001", "27021", "9998", "9999", "5501", "5502"}
}

// doors are the ports that every node may connect to, and that decide by
// certificate: what shows that the network is there at all.
func doors(n lab.NodeStatus) []string {
	for _, process := range n.Processes {
		switch process.Name {
		case "mongo-agent":
			return []string{"27020"}
		case "web":
			return []string{"8000"}
		}
	}
	return nil
}

// loopbacksAreOutOfReach tries every private port of every node from every other
// node.
func loopbacksAreOutOfReach(p *proof) {
	nodes := p.lab.Status().Nodes
	tries, controls := 0, 0
	for _, from := range nodes {
		private, allowed := map[string]bool{}, map[string]bool{}
		isMongo := roleOf(from) != ""
		for _, to := range nodes {
			if to.Name == from.Name {
				allowed["127.0.0.1:8500"] = true
				continue
			}
			for _, port := range privatePorts() {
				private[to.Address+":"+port] = true
			}
			for _, port := range doors(to) {
				allowed[to.Address+":"+port] = true
			}
		}
		for number := 1; number <= 3; number++ {
			// The members' names. On a mongo node the others' are the mesh's own
			// listeners; on any other node nobody may answer.
			member := fmt.Sprintf("127.0.10.%d:27017", number)
			if isMongo {
				allowed[member] = true
			} else {
				private[member] = true
			}
		}
		var scan []string
		for address := range private {
			scan = append(scan, address)
		}
		for address := range allowed {
			scan = append(scan, address)
		}
		for _, e := range p.ask(from.Name, order{Scan: scan}) {
			switch {
			case private[e.Stream]:
				tries++
				if e.Result != refused && e.Result != timeout {
					p.Errorf("from %s: %s is %s %s", from.Name, e.Stream, e.Result, e.Detail)
				}
			case allowed[e.Stream]:
				controls++
				if e.Result != served {
					p.Errorf("from %s: the control %s is %s %s", from.Name, e.Stream, e.Result, e.Detail)
				}
			}
		}
	}
	p.Logf("%d private addresses tried, each from every other node; %d controls answered", tries, controls)
	if tries < 6*7*len(privatePorts()) || controls < 7*5 {
		p.Errorf("%d tries and %d controls: no evidence", tries, controls)
	}
}

// agentsAreFilesOfTheUser holds that where all nodes share one loopback, the
// agents' APIs are not on it: they are sockets that only the lab's user can open.
func agentsAreFilesOfTheUser(p *proof) {
	for _, n := range p.lab.Status().Nodes {
		address := n.Address + ":8500"
		if c, err := (&net.Dialer{Timeout: scanTimeout}).DialContext(p.Context(), "tcp", address); err == nil {
			_ = c.Close()
			p.Errorf("any process of this machine reaches the agent of %s at %s", n.Name, address)
		}
		result := p.lab.Must("exec", n.Name, "--", "printenv", "CONSUL_HTTP_ADDR")
		path, ok := strings.CutPrefix(strings.TrimSpace(result.Stdout), "unix://")
		if !ok {
			p.Errorf("the agent of %s is at %s", n.Name, result.Stdout)
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			p.Error(err)
		} else if info.Mode().Perm() != 0o600 {
			p.Errorf("the socket of the agent of %s has mode %s", n.Name, info.Mode())
		}
	}
}

// leafQuestion asks an agent for a service's leaf, with its private key.
type leafQuestion struct {
	Name      string `json:"name"`
	Agent     string `json:"agent"`
	Service   string `json:"service"`
	TokenFile string `json:"token_file,omitempty"`
}

// leaves asks, and tells the answers' status and whether they hold a key; never a
// key.
func (p *probe) leaves(ctx context.Context) error {
	for _, question := range p.Leaves {
		result, detail := failed, ""
		status, key, err := askLeaf(ctx, question)
		switch {
		case err != nil:
			result, detail = resultOf(err), err.Error()
		case key:
			result, detail = served, "with a private key"
		case status == http.StatusForbidden:
			result = denied
		default:
			detail = fmt.Sprint("status ", status)
		}
		p.say(event{Stream: question.Name, Result: result, Detail: detail})
	}
	return nil
}

func askLeaf(ctx context.Context, question leafQuestion) (status int, key bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+question.Agent+"/v1/agent/connect/ca/leaf/"+question.Service, nil)
	if err != nil {
		return 0, false, err
	}
	if question.TokenFile != "" {
		token, err := os.ReadFile(question.TokenFile)
		if err != nil {
			return 0, false, errors.New("cannot read the token")
		}
		request.Header.Set("X-Consul-Token", strings.TrimSpace(string(token)))
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, false, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, strings.Contains(string(body), "PRIVATE KEY"), err
}

// tokensReadTheirOwnLeafOnly asks for leaves that are not one's own: from the own
// agent, which has never handed out that leaf, and from agents that have.
//
// An agent that holds a leaf hands it to whoever reaches its HTTP API, whatever
// the token (Consul's leaf cache does not know tokens). So what guards a leaf is
// that nobody but its own node reaches the agent that holds it.
func tokensReadTheirOwnLeafOnly(p *proof) {
	primary, _ := p.members()
	const own = "127.0.0.1:8500"
	web := p.token("web", "web-1")
	questions := []leafQuestion{{"control: web's own leaf", own, "web", web}}
	want := map[string]string{"control: web's own leaf": served}
	add := func(result string, question leafQuestion) {
		questions, want[question.Name] = append(questions, question), result
	}
	for _, service := range []string{"mongo-primary", "mongo-secondary", "mongo-repl", "gateway"} {
		add(denied, leafQuestion{"cold agent, web's token, leaf of " + service, own, service, web})
		add(denied, leafQuestion{"cold agent, no token, leaf of " + service, own, service, ""})
	}
	for node, service := range map[string]string{primary.Name: "mongo-primary", "gateway-1": "gateway", "web-2": "web"} {
		agent := p.node(node).Address + ":8500"
		add(refused, leafQuestion{"warm agent of " + node + ", web's token", agent, service, web})
		add(refused, leafQuestion{"warm agent of " + node + ", no token", agent, service, ""})
	}
	for _, e := range p.ask("web-1", order{Leaves: questions}) {
		p.Logf("%-60s %s %s", e.Stream, e.Result, e.Detail)
		if e.Result != want[e.Stream] {
			p.Errorf("%s: %s %s, want %s", e.Stream, e.Result, e.Detail, want[e.Stream])
		}
		delete(want, e.Stream)
	}
	for name := range want {
		p.Errorf("%s: no answer", name)
	}
	// That the agent of the primary is warm is what makes its unreachability count.
	warm := p.ask(primary.Name, order{Leaves: []leafQuestion{{"warm", own, "mongo-primary", p.token("mongo", primary.Name)}}})
	if len(warm) != 1 || warm[0].Result != served {
		p.Errorf("the agent of %s does not hold its leaf: %v", primary.Name, warm)
	}
}
