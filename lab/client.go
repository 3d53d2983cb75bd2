package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"sluice/consul"
	"sluice/lab/consulconfig"
	"sluice/lab/control"
)

// Client talks to the supervisor of a running lab. It may be used by several
// goroutines at once.
type Client struct{ layout Layout }

// NewClient returns a client for the lab of a state folder. Whether one is
// running shows at the first call: control.ErrNotRunning.
func NewClient(state string) (*Client, error) {
	layout, err := NewLayout(state)
	if err != nil {
		return nil, err
	}
	return &Client{layout: layout}, nil
}

func call[T any](ctx context.Context, c *Client, op string, args any, files []*os.File) (T, error) {
	var result T
	client, err := control.Dial(ctx, c.layout.Socket())
	if err != nil {
		return result, err
	}
	defer client.Close()
	raw, err := client.Do(ctx, op, args, files, nil)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return result, fmt.Errorf("read the supervisor's answer: %w", err)
	}
	return result, nil
}

// Status returns the state of the lab at this moment.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, opStatus, nil, nil)
}

// Reduce takes a datacenter out of the lab; onEvent is called for each step.
func (c *Client) Reduce(ctx context.Context, request ReduceRequest, onEvent func(Event)) error {
	client, err := control.Dial(ctx, c.layout.Socket())
	if err != nil {
		return err
	}
	defer client.Close()
	raw, err := client.Do(ctx, opReduce, request, nil, func(raw json.RawMessage) {
		var event Event
		if json.Unmarshal(raw, &event) == nil {
			onEvent(event)
		}
	})
	if err != nil {
		return err
	}
	var final Event
	if err := json.Unmarshal(raw, &final); err != nil {
		return fmt.Errorf("read the supervisor's answer: %w", err)
	}
	if final.Failure != nil {
		return &UpError{Failure: *final.Failure}
	}
	return nil
}

// Fault injects or heals a fault.
func (c *Client) Fault(ctx context.Context, request FaultRequest) (FaultResult, error) {
	return call[FaultResult](ctx, c, opFault, request, nil)
}

// MongoStatus returns the state of the replica set at this moment.
func (c *Client) MongoStatus(ctx context.Context) (MongoStatus, error) {
	return call[MongoStatus](ctx, c, opMongo, MongoRequest{Action: MongoShow}, nil)
}

// Mongo does a drill with the replica set; onEvent is called for each step.
func (c *Client) Mongo(ctx context.Context, request MongoRequest, onEvent func(MongoEvent)) (MongoResult, error) {
	client, err := control.Dial(ctx, c.layout.Socket())
	if err != nil {
		return MongoResult{}, err
	}
	defer client.Close()
	raw, err := client.Do(ctx, opMongo, request, nil, func(raw json.RawMessage) {
		var event MongoEvent
		if json.Unmarshal(raw, &event) == nil {
			onEvent(event)
		}
	})
	if err != nil {
		return MongoResult{}, err
	}
	var result MongoResult
	if err := json.Unmarshal(raw, &result); err != nil {
		return MongoResult{}, fmt.Errorf("read the supervisor's answer: %w", err)
	}
	return result, nil
}

// AwaitEnforced waits until every process decides an edge as wanted. Those that do
// not, because they are too slow or a fault keeps them from it, are the result's
// Pending; that is no error.
func (c *Client) AwaitEnforced(ctx context.Context, request EnforcedRequest) (EnforcedResult, error) {
	return call[EnforcedResult](ctx, c, opEnforce, request, nil)
}

// AwaitSetting waits until every web of a datacenter says that it runs with a value.
// Those that do not, because they are too slow or a fault keeps them from it, are the
// result's Pending; that is no error.
func (c *Client) AwaitSetting(ctx context.Context, request SettingRequest) (SettingResult, error) {
	return call[SettingResult](ctx, c, opSetting, request, nil)
}

// Processes lists the lab's processes and their logs.
func (c *Client) Processes(ctx context.Context) ([]ProcessRef, error) {
	return call[[]ProcessRef](ctx, c, opProcess, nil, nil)
}

// Capture writes every frame on the node's link to file, in pcap format, until
// ctx ends.
func (c *Client) Capture(ctx context.Context, node string, file *os.File) error {
	_, err := call[json.RawMessage](ctx, c, opCapture, CaptureRequest{Node: node}, []*os.File{file})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Exec runs a command inside a node on the given standard files, passes signals
// on, and returns the command's exit code.
func (c *Client) Exec(ctx context.Context, request ExecRequest, files [3]*os.File, signals <-chan os.Signal) (int, error) {
	client, err := control.Dial(ctx, c.layout.Socket())
	if err != nil {
		return 0, err
	}
	defer client.Close()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			case received := <-signals:
				_ = client.Signal(received)
			}
		}
	}()
	raw, err := client.Do(ctx, opExec, request, files[:], nil)
	if err != nil {
		return 0, err
	}
	var result ExecResult
	if err := json.Unmarshal(raw, &result); err != nil {
		return 0, fmt.Errorf("read the supervisor's answer: %w", err)
	}
	return result.ExitCode, nil
}

// Running returns control.ErrNotRunning when no supervisor answers. The files of
// a lab that was killed are still there, so they do not tell.
func (c *Client) Running(ctx context.Context) error {
	client, err := control.Dial(ctx, c.layout.Socket())
	if err != nil {
		return err
	}
	return client.Close()
}

// Options returns how the lab was started.
func (c *Client) Options() (Options, error) {
	options, err := loadOptions(c.layout)
	if err != nil {
		return Options{}, control.ErrNotRunning
	}
	return options, nil
}

// Unanswered returns what to tell people when err means that Consul's server did
// not answer at all, or has no leader; nil when err means something else.
func Unanswered(err error) *control.Error {
	var transport *url.Error
	if err == nil || !errors.As(err, &transport) && !strings.Contains(err.Error(), "No cluster leader") {
		return nil
	}
	return &control.Error{
		Message: "Consul's server does not answer",
		Code:    2, Hint: "sluice fault heal --all    (sluice status shows what is broken)",
	}
}

// LogFiles lists the logs that lie in the state folder, by what they are called
// there, whether a lab is running or not.
func (c *Client) LogFiles() ([]ProcessRef, error) {
	paths, err := filepath.Glob(c.layout.Log("*", "*"))
	if err != nil {
		return nil, fmt.Errorf("list the logs: %w", err)
	}
	refs := make([]ProcessRef, 0, len(paths))
	for _, path := range paths {
		refs = append(refs, ProcessRef{
			Node: filepath.Base(filepath.Dir(path)), Process: strings.TrimSuffix(filepath.Base(path), ".log"), Log: path,
		})
	}
	return refs, nil
}

// SupervisorLog is what the supervisor itself wrote.
func (c *Client) SupervisorLog() ProcessRef {
	return ProcessRef{Node: "supervisor", Log: c.layout.SupervisorLog()}
}

// AgentCertificates is the folder of the Consul agents' own certificates.
func (c *Client) AgentCertificates() string { return c.layout.TLS() }

// Purgeable returns nil if Down would delete the state folder, which may not be
// there, else why it would refuse.
func (c *Client) Purgeable() error { return c.layout.owned() }

// Consul opens Consul as the operator, through the host's port.
func (c *Client) Consul() (*consul.Client, error) {
	return c.open("", operatorToken)
}

// ConsulOf opens the Consul of a datacenter as the operator.
func (c *Client) ConsulOf(datacenter string) (*consul.Client, error) {
	return c.open(datacenter, operatorToken)
}

// BreakGlass opens the Consul of a datacenter as the one who may deny there by himself,
// and nothing else.
func (c *Client) BreakGlass(datacenter string) (*consul.Client, error) {
	return c.open(datacenter, breakGlassToken)
}

// open opens Consul through the host's port of a datacenter, the primary one's if it is
// empty.
func (c *Client) open(datacenter, token string) (*consul.Client, error) {
	options, err := c.Options()
	if err != nil {
		return nil, err
	}
	for _, host := range options.Hosts {
		if host.Name == "consul" && (datacenter == "" || host.Datacenter == datacenter) {
			return consul.Open(consul.Config{
				Address: host.Address, TokenFile: c.layout.TokenFile(token), BreakGlass: consulconfig.BreakGlassKey,
			})
		}
	}
	return nil, fail(control.ExitUsage, "sluice status", "open Consul: the lab has no port of datacenter %q for it", datacenter)
}
