package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/datacenters"
	"sluice/lab/control"
	"sluice/lab/engine"
	"sluice/web/settings"
)

// SettingRequest asks until when every web of a datacenter runs with a value.
type SettingRequest struct {
	Datacenter string `json:"datacenter"`
	Key        string `json:"key"`
	// Value is the one in force, as web shows it.
	Value string `json:"value"`
	// Index is Consul's index that the process must have heard of.
	Index uint64 `json:"index"`
}

// SettingResult says how long that took and who runs with it.
type SettingResult struct {
	Seconds float64 `json:"seconds"`
	// Processes are the node/process names that say so.
	Processes []string `json:"processes"`
	// Pending are those that do not.
	Pending []PendingProcess `json:"pending,omitempty"`
}

// settingTimeout is how long a process has to take over a setting. It takes some
// milliseconds where nothing is broken.
const settingTimeout = 10 * time.Second

// handleSetting waits until every web of a datacenter says that it runs with a value.
// It does not wait for those that a fault keeps from it.
func (s *Supervisor) handleSetting(ctx context.Context, call *control.Call) error {
	var request SettingRequest
	if err := call.Decode(&request); err != nil {
		return err
	}
	if !s.runs(request.Datacenter) {
		return fail(control.ExitUsage, "sluice status", "no datacenter %q runs", request.Datacenter)
	}
	result, err := awaitSetting(ctx, func(ctx context.Context) SettingResult { return s.whoRunsWith(ctx, request) })
	if err != nil {
		return err
	}
	return call.Result(result)
}

// awaitSetting asks who runs with a value until everybody does whom no fault keeps
// from it, or settingTimeout has passed: what is left is the result's Pending.
func awaitSetting(ctx context.Context, who func(context.Context) SettingResult) (SettingResult, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, settingTimeout, fmt.Errorf("not within %s", settingTimeout))
	defer cancel()
	began := time.Now()
	var result SettingResult
	err := waitFor(bounded, "every web runs with it", func(ctx context.Context) error {
		seen := who(ctx)
		if ctx.Err() != nil && result.Pending != nil {
			return ctx.Err()
		}
		result = seen
		for _, pending := range seen.Pending {
			if !pending.Faulty {
				return errors.New(pending.Process + ": " + pending.Reason)
			}
		}
		return nil
	})
	if err != nil && (ctx.Err() != nil || len(result.Pending) == 0) {
		return result, fail(3, "sluice status", "%v", err)
	}
	result.Seconds = time.Since(began).Seconds()
	return result, nil
}

// whoRunsWith asks every web of the datacenter once.
func (s *Supervisor) whoRunsWith(ctx context.Context, request SettingRequest) SettingResult {
	result := SettingResult{Processes: []string{}}
	for _, n := range s.withIn(request.Datacenter, datacenters.Web) {
		web := n.process(processWeb)
		if web == nil || !web.State().Running {
			continue
		}
		label := n.node.Name + "/" + processWeb
		if web.State().Stopped {
			result.Pending = append(result.Pending, PendingProcess{Process: label, Reason: "stopped", Faulty: true})
			continue
		}
		err := n.runsWith(ctx, request)
		switch fault := n.deafToAgent(); {
		case err == nil:
			result.Processes = append(result.Processes, label)
		case fault != "":
			result.Pending = append(result.Pending, PendingProcess{Process: label, Reason: fault, Faulty: true})
		default:
			result.Pending = append(result.Pending, PendingProcess{Process: label, Reason: err.Error()})
		}
	}
	return result
}

// runsWith returns nil when the node's web says that it runs with the value.
func (n *node) runsWith(ctx context.Context, request SettingRequest) error {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var report settings.Report
	if err := getJSON(ctx, n.httpClient(), "http://"+n.ops(processWeb)+"/settings", &report); err != nil {
		return err
	}
	return report.RunsWith(request.Key, request.Value, request.Index)
}

// deafToAgent says which fault keeps news of its own datacenter from the node's
// processes; empty is none.
func (n *node) deafToAgent() string {
	agent := n.process(processConsul)
	switch {
	case n.machine.IsCut() != engine.NoDirection:
		return "its node is cut off"
	case agent == nil:
		return ""
	case agent.State().Stopped:
		return "its agent is stopped"
	case !agent.State().Running:
		return "its agent has ended"
	default:
		return ""
	}
}
