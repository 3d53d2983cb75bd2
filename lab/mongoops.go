package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// OpTime is a place in the replica set's log, as the agents tell it.
type OpTime struct {
	// Term is the term in which it was written.
	Term int64 `json:"t"`
	// Timestamp is MongoDB's: seconds of the epoch in the upper half, a counter
	// within the second in the lower.
	Timestamp uint64 `json:"ts"`
}

// AgentReport is what a mongo-agent says at /role, as far as the lab shows it.
type AgentReport struct {
	Role    string    `json:"role"`
	Term    int64     `json:"term"`
	Me      string    `json:"me"`
	Primary string    `json:"primary"`
	Set     string    `json:"set"`
	Since   time.Time `json:"since,omitzero"`
	Reason  string    `json:"reason,omitempty"`
	Node    string    `json:"node"`
	Profile string    `json:"profile,omitempty"`
	// Fence is why the agent serves nobody; empty while it is not fenced.
	Fence string `json:"fence"`
	Lease struct {
		Valid  bool    `json:"valid"`
		LeftMS float64 `json:"left_ms"`
	} `json:"lease"`
	// OpTime is the own member's, where the agent tells it.
	OpTime OpTime `json:"optime,omitzero"`
	// SyncSource is the member that the own one replicates from.
	SyncSource string `json:"sync_source,omitempty"`
	// Voter says that the own member counts for a majority of the set.
	Voter bool `json:"voter"`
	// Majority is what mongod said of it, ToldMS milliseconds ago; nil if it never did.
	Majority *ToldMajority `json:"majority,omitempty"`
	Peers    []PeerReport  `json:"peers"`
	// Alarm is what the agent says must never be.
	Alarm     string          `json:"alarm,omitempty"`
	Elections []ElectionEvent `json:"elections"`
	Mongod    struct {
		PID    int    `json:"pid"`
		State  string `json:"state"`
		Frozen bool   `json:"frozen"`
	} `json:"mongod"`
}

// ToldMajority is how far a majority has come by what a mongod said.
type ToldMajority struct {
	MajorityPoint
	ToldMS float64 `json:"told_ms"`
}

// PeerReport is what an agent knows of another member from its heartbeats.
type PeerReport struct {
	Node string `json:"node"`
	Lost bool   `json:"lost"`
	// Reason is why it counts as lost.
	Reason string `json:"reason,omitempty"`
	// HeardMS is how long ago it was heard, in milliseconds; nil if it never was.
	HeardMS    *float64 `json:"heard_ms,omitempty"`
	Role       string   `json:"role"`
	Term       int64    `json:"term"`
	OpTime     OpTime   `json:"optime"`
	SyncSource string   `json:"sync_source,omitempty"`
	Frozen     bool     `json:"frozen"`
	// Majority is what the member said of it when it was heard.
	Majority MajorityPoint `json:"majority,omitzero"`
}

// ElectionEvent is one time that an agent took part in an election or refused to.
type ElectionEvent struct {
	At time.Time `json:"at"`
	// Why is what was wrong, Subject the node with which.
	Why     string `json:"why"`
	Subject string `json:"subject"`
	// Outcome is won, lost or refused; Helper is the node whose agent acted.
	Outcome   string  `json:"outcome"`
	Helper    string  `json:"helper"`
	DecidedMS float64 `json:"decided_ms"`
	ElectedMS float64 `json:"elected_ms"`
	Error     string  `json:"error,omitempty"`
}

// agentOps asks one mongo-agent. Its requests for a change carry proof that the
// asker has the set's key.
type agentOps struct {
	client *http.Client
	base   string // "http://127.0.0.1:27021"
	key    string // file of the replica set's key
}

// agentOps reaches the node's mongo-agent from inside the node.
func (s *Supervisor) agentOps(n *node) agentOps {
	return agentOps{client: n.httpClient(), base: "http://" + n.ops(processMongoAgent), key: s.layout.KeyFile()}
}

// errAgentRefused means that the agent understood, and will not: it is not
// primary, for example.
var errAgentRefused = errors.New("refused")

// errAgentCannot means that the agent does not know the operation.
var errAgentCannot = errors.New("this mongo-agent does not know the operation")

// report asks for what the agent knows.
func (o agentOps) report(ctx context.Context) (AgentReport, error) {
	var report AgentReport
	err := getJSON(ctx, o.client, o.base+"/role", &report)
	return report, err
}

// handOver asks the agent's mongod to hand its primacy to another member, or with
// to, to that node.
func (o agentOps) handOver(ctx context.Context, to string) error {
	path := "/handover"
	if to != "" {
		path += "?to=" + url.QueryEscape(to)
	}
	return o.post(ctx, path)
}

// freeze keeps the agent's mongod from standing for election, for a time of whole
// seconds; 0 ends that.
func (o agentOps) freeze(ctx context.Context, limit time.Duration) error {
	return o.post(ctx, "/freeze?seconds="+strconv.Itoa(int(limit.Seconds())))
}

// mayResync asks whether the agent has something against a resync of its mongod.
// It does nothing else: who runs mongod does the rest.
func (o agentOps) mayResync(ctx context.Context) error { return o.post(ctx, "/resync") }

// SetMember is one member of the set as an agent is asked for it.
type SetMember struct {
	Address    string `json:"address"`
	Datacenter string `json:"datacenter"`
}

// reshape has the agent make one change on the way to a set of exactly these members.
// It returns what is still to be done; "" is nothing.
func (o agentOps) reshape(ctx context.Context, members []SetMember) (pending string, err error) {
	body, err := json.Marshal(members)
	if err != nil {
		return "", err
	}
	content, err := o.exchange(ctx, "/members", body)
	if err != nil {
		return "", err
	}
	var answer struct {
		Pending string `json:"pending"`
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return "", fmt.Errorf("read the agent's answer: %w", err)
	}
	return answer.Pending, nil
}

// promote makes the members of the agent's datacenter the only voters.
func (o agentOps) promote(ctx context.Context, datacenter string) error {
	return o.post(ctx, "/promote?datacenter="+url.QueryEscape(datacenter))
}

// salvage has the agent compare the log of a mongod on its node with the primary's, and
// writes what only the mongod has to out, one line of JSON an operation.
func (o agentOps) salvage(ctx context.Context, mongod string, out io.Writer) error {
	o.client.Timeout = 0 // ctx bounds it
	response, err := o.send(ctx, "/salvage?mongod="+url.QueryEscape(mongod), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		content, _ := io.ReadAll(io.LimitReader(response.Body, answerLimit))
		return fmt.Errorf("the agent answered %d: %s", response.StatusCode, saidError(content))
	}
	_, err = io.Copy(out, response.Body)
	return err
}

// post asks for a change.
func (o agentOps) post(ctx context.Context, path string) error {
	_, err := o.exchange(ctx, path, nil)
	return err
}

// exchange asks for a change and returns the answer.
func (o agentOps) exchange(ctx context.Context, path string, body []byte) ([]byte, error) {
	response, err := o.send(ctx, path, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	if err != nil {
		return nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	switch {
	case response.StatusCode/100 == 2:
		return content, nil
	case response.StatusCode == http.StatusConflict:
		return nil, fmt.Errorf("%w: %s", errAgentRefused, saidError(content))
	case response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusMethodNotAllowed:
		return nil, errAgentCannot
	default:
		return nil, fmt.Errorf("the agent answered %d: %s", response.StatusCode, saidError(content))
	}
}

// send asks with the proof that the asker has the set's key.
func (o agentOps) send(ctx context.Context, path string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	bearer, err := operationsToken(o.key)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+bearer)
	return o.client.Do(request)
}

// saidError is the error in an agent's answer, or what it said instead.
func saidError(content []byte) string {
	var answer struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(content, &answer) == nil && answer.Error != "" {
		return answer.Error
	}
	return firstLine(content)
}

// operationsToken proves to a mongo-agent that its asker may read the set's key,
// without telling the key.
func operationsToken(keyFile string) (string, error) {
	content, err := os.ReadFile(keyFile)
	if err != nil {
		return "", fmt.Errorf("read the replica set's key: %w", err)
	}
	key := strings.Join(strings.Fields(string(content)), "")
	sum := sha256.Sum256([]byte("sluice operations\n" + key))
	return hex.EncodeToString(sum[:]), nil
}
