package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func stdin() io.Reader { return os.Stdin }

// generator sends load from a process of its own: wrk where it is, which costs
// least of the machine that the proxy shares with it, else our own.
type generator struct {
	lab *lab
	// wrk is the path of wrk, "" if there is none.
	wrk string
}

// name says what sends the load without a rate.
func (g generator) name() string {
	if g.wrk != "" {
		return "wrk"
	}
	return "own generator"
}

// send sends load. Without a rate it is wrk that does.
func (g generator) send(ctx context.Context, cfg loadConfig) (loadResult, error) {
	if g.wrk != "" && cfg.Rate == 0 {
		return g.sendByWrk(ctx, cfg)
	}
	said, err := g.run(ctx, g.lab.self, []string{loadCommand}, cfg)
	if err != nil {
		return loadResult{}, err
	}
	var result loadResult
	return result, json.Unmarshal(said, &result)
}

// run runs a program to its end and returns its standard output.
func (g generator) run(ctx context.Context, path string, args []string, cfg loadConfig) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Duration+time.Minute)
	defer cancel()
	content, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	p, err := start(command{
		name: "load", path: path, args: args, folder: g.lab.folder, stdin: bytes.NewReader(content), stdout: &said,
	})
	if err != nil {
		return nil, err
	}
	defer p.stop(time.Second)
	if err := p.wait(ctx); err != nil {
		return nil, err
	}
	return said.Bytes(), nil
}

// wrkScript sends the hits in turn and reports in a form that nothing else on
// standard output has.
const wrkScript = `
local hits = {}
function init(args)
  for line in io.lines(%q) do
    local host, path = line:match("^(%%S+) (%%S+)$")
    hits[#hits + 1] = wrk.format("GET", path, {Host = host})
  end
end
local next = 0
function request()
  next = next %% #hits + 1
  return hits[next]
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("\nRESULT %%d %%d %%d %%d %%d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.timeout + e.status, latency:percentile(50), latency:percentile(99)))
end
`

func (g generator) sendByWrk(ctx context.Context, cfg loadConfig) (loadResult, error) {
	hits := filepath.Join(g.lab.folder, "hits")
	var lines strings.Builder
	for _, h := range cfg.Hits {
		fmt.Fprintf(&lines, "%s %s\n", h.Host, h.Path)
	}
	script := filepath.Join(g.lab.folder, "wrk.lua")
	for name, content := range map[string]string{hits: lines.String(), script: fmt.Sprintf(wrkScript, hits)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return loadResult{}, err
		}
	}
	// wrk takes whole seconds.
	seconds := max(1, int((cfg.Duration+time.Second/2)/time.Second))
	said, err := g.run(ctx, g.wrk, []string{
		"-t1", fmt.Sprintf("-c%d", cfg.Connections), fmt.Sprintf("-d%ds", seconds), "--timeout", "10s",
		"-s", script, "http://" + cfg.Address + "/",
	}, cfg)
	if err != nil {
		return loadResult{}, err
	}
	return parseWrk(string(said))
}

// parseWrk reads what wrkScript writes.
func parseWrk(said string) (loadResult, error) {
	_, line, found := strings.Cut(said, "\nRESULT ")
	var result loadResult
	var micros int64
	if !found {
		return result, fmt.Errorf("wrk gave no result: %.200q", said)
	}
	if _, err := fmt.Sscan(line, &result.Requests, &micros, &result.Failed, &result.P50, &result.P99); err != nil {
		return result, fmt.Errorf("read wrk's result: %w: %.200q", err, line)
	}
	result.Seconds = float64(micros) / 1e6
	if result.Failed > 0 {
		result.Reason = "wrk counted errors or answers that are not 2xx or 3xx"
	}
	return result, nil
}
