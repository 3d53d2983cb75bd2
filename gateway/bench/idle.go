package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// idleClient is a process that holds idle connections.
type idleClient struct {
	process *process
	input   *os.File
	answers *json.Decoder
	output  *os.File
}

// openIdle starts the process; opened waits until it has its connections.
func openIdle(l *lab, cfg loadConfig) (*idleClient, error) {
	theirInput, input, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirInput.Close() }()
	output, theirOutput, err := os.Pipe()
	if err != nil {
		_ = input.Close()
		return nil, err
	}
	defer func() { _ = theirOutput.Close() }()
	p, err := start(command{name: "idle", path: l.self, args: []string{loadCommand}, folder: l.folder, stdin: theirInput, stdout: theirOutput})
	if err != nil {
		_, _ = input.Close(), output.Close()
		return nil, err
	}
	c := &idleClient{process: p, input: input, output: output, answers: json.NewDecoder(output)}
	if err := json.NewEncoder(input).Encode(cfg); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// opened waits until every connection had its answer.
func (c *idleClient) opened(ctx context.Context) error {
	result, err := c.answer(ctx)
	if err == nil && result.Reason != "" {
		err = fmt.Errorf("%d connections: %s", result.OpenConnections, result.Reason)
	}
	return err
}

// close ends the connections and returns how many were still open.
func (c *idleClient) close(ctx context.Context) (int, error) {
	if err := c.input.Close(); err != nil {
		return 0, err
	}
	result, err := c.answer(ctx)
	return result.OpenConnections, err
}

// answer reads what the process says next, and gives up when ctx ends or it takes
// too long.
func (c *idleClient) answer(ctx context.Context) (loadResult, error) {
	release := context.AfterFunc(ctx, func() { _ = c.output.SetReadDeadline(time.Unix(1, 0)) })
	defer release()
	if err := c.output.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return loadResult{}, err
	}
	var result loadResult
	err := c.answers.Decode(&result)
	if err == io.EOF {
		err = fmt.Errorf("the client has ended: %s", c.process.tail())
	}
	return result, err
}

func (c *idleClient) stop() {
	_ = c.input.Close()
	c.process.stop(time.Second)
	_ = c.output.Close()
}
