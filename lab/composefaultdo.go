package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"sluice/lab/control"
)

// Fault makes or heals a fault by what Docker can do: signals, restarts and links. A fault
// is written down before it is made, so that `fault heal --all` finds it.
func (c *ComposeLab) Fault(ctx context.Context, request FaultRequest) (FaultResult, error) {
	result := FaultResult{Done: []string{}}
	containers, err := c.Containers(ctx)
	if err != nil {
		return result, err
	}
	if err := c.readFaults(ctx); err != nil && request.Action != FaultHeal {
		return result, fail(control.ExitUsage, "docker compose up -d", "%s %s: %v", request.Action, request.Target, err)
	}
	steps, err := c.supervisor.composeFault(request, containers, c.faults.list())
	if err != nil {
		return result, err
	}
	for _, step := range steps {
		if request.DryRun {
			result.Planned = append(result.Planned, step.what)
			continue
		}
		if err := c.take(ctx, step); err != nil {
			return result, fail(control.ExitUsage, "sluice status --engine compose", "%s %s: %v", request.Action, request.Target, err)
		}
		result.Done = append(result.Done, step.what)
	}
	return result, nil
}

// take makes a step.
func (c *ComposeLab) take(ctx context.Context, step composeStep) error {
	return c.takeBy(step, func() error { return c.run(ctx, step) })
}

// takeBy writes a step's fault down, does it, and strikes out what it has healed. What
// was so before is no error where the step says so.
func (c *ComposeLab) takeBy(step composeStep, do func() error) error {
	// One record stands for every link of a cut.
	if made := step.makes; made.Action != "" && !c.faults.has(made.Action, made.Target) {
		made.Since = time.Now()
		if err := c.faults.add(made); err != nil {
			return err
		}
	}
	err := do()
	if err != nil && !slices.ContainsFunc(step.harmless, func(text string) bool { return strings.Contains(err.Error(), text) }) {
		return err
	}
	if slices.ContainsFunc(step.heals, func(action FaultAction) bool { return c.faults.has(action, step.target) }) {
		return c.faults.remove(step.target, step.heals...)
	}
	return nil
}

// run runs the docker command of a step; one without any only strikes a fault out.
func (c *ComposeLab) run(ctx context.Context, step composeStep) error {
	if len(step.docker) == 0 {
		return nil
	}
	id, err := c.container(ctx, step.service)
	if err != nil {
		return err
	}
	args := slices.Clone(step.docker)
	if step.network != "" {
		network, err := c.network(ctx, step.network)
		if err != nil {
			return err
		}
		args = append(args, network)
	}
	_, err = docker(ctx, append(args, id)...)
	return err
}

// readFaults learns the faults that were written down.
func (c *ComposeLab) readFaults(ctx context.Context) error {
	content, err := c.operator(ctx, nil, "compose", "faults")
	if err != nil {
		return fmt.Errorf("read the list of faults: %w", err)
	}
	var records []FaultRecord
	if err := json.Unmarshal(content, &records); err != nil {
		return fmt.Errorf("read the list of faults: %w", err)
	}
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.records = records
	return nil
}

// faultsTimeout bounds the writing of the list.
const faultsTimeout = 20 * time.Second

func (c *ComposeLab) writeFaults(content []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), faultsTimeout)
	defer cancel()
	_, err := c.operator(ctx, content, "compose", "faults", "--write")
	return err
}

// ComposeFaults returns the list of faults in the state folder of the operator's
// container, as JSON; content that is not nil replaces it before.
func ComposeFaults(content []byte) ([]byte, error) {
	layout, err := NewLayout(composeState)
	if err != nil {
		return nil, err
	}
	if content != nil {
		var records []FaultRecord
		if err := json.Unmarshal(content, &records); err != nil {
			return nil, fmt.Errorf("read the list of faults: %w", err)
		}
		return content, writeSecret(layout.FaultsFile(), content)
	}
	content, err = os.ReadFile(layout.FaultsFile())
	if errors.Is(err, os.ErrNotExist) {
		return []byte("[]\n"), nil
	}
	return content, err
}
