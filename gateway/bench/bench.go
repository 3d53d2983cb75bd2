package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run.
type bench struct {
	cfg       config
	log       io.Writer
	lab       *lab
	generator generator
	results   *results
	// found are the peers that this machine has, with the paths of their binaries.
	found []foundPeer
}

type foundPeer struct {
	peer
	path string
}

// proxy is a peer that runs.
type proxy struct {
	peer    peer
	plan    plan
	process *process
}

// measure is the whole bench: the flags, the lab, every scenario, the table.
func measure(ctx context.Context, args []string, out, log io.Writer) error {
	cfg, err := parse(args, log)
	if err != nil {
		return err
	}
	raiseFileLimit()
	lab, err := startLab(ctx, log)
	if err != nil {
		return err
	}
	defer lab.close()
	b := &bench{cfg: cfg, log: log, lab: lab, generator: generator{lab: lab}, results: newResults(time.Now(), describeMachine())}
	if cfg.add {
		if b.results, err = loadResults(cfg.out, cfg.sampleNames()); err != nil {
			return err
		}
	}
	b.generator.wrk, _ = find("wrk", "SLUICE_WRK")
	b.results.Generator = b.generator.name()
	b.results.Settings = cfg.settings()
	if err := b.findPeers(); err != nil {
		return err
	}
	if dropped := b.results.dropOtherBuilds(); len(dropped) > 0 {
		b.say("earlier results of other builds are dropped: %s", strings.Join(dropped, ", "))
	}
	if err := b.register(ctx); err != nil {
		return err
	}
	for _, s := range scenarios() {
		if !wants(cfg.scenarios, s.name) {
			continue
		}
		b.say("scenario %s: %s", s.name, s.what)
		if err := s.run(b, ctx); err != nil {
			// What was measured before is not lost.
			return errors.Join(fmt.Errorf("scenario %s: %w", s.name, err), b.results.save(cfg.out))
		}
		if err := b.results.save(cfg.out); err != nil {
			return err
		}
	}
	text := render(b.results)
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	if cfg.page != "" {
		return replace(cfg.page, text)
	}
	return nil
}

// raiseFileLimit lets us and what we start have as many open files as the system
// allows: scenario idle needs one for each connection.
func raiseFileLimit() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	// Root may have more than it was given.
	const enough = 1 << 16
	more := syscall.Rlimit{Cur: enough, Max: max(enough, limit.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) != nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.log, "bench: "+format+"\n", args...)
}

// findPeers looks for every peer that was asked for. One that this machine lacks
// becomes a row with the reason; without the gateway there is nothing to measure.
func (b *bench) findPeers() error {
	for _, p := range peers() {
		if !wants(b.cfg.peers, p.name) || p.name == sluiceOther && os.Getenv(otherGateway) == "" {
			continue
		}
		path, err := p.locate(b.cfg.gateway)
		if err == nil && p.ours {
			// A copy: somebody may build it anew while it is measured.
			path, err = copyProgram(path, filepath.Join(b.lab.folder, p.name))
		}
		if err != nil {
			if p.name == sluice {
				return fmt.Errorf("%w: %w", errMissing, err)
			}
			b.say("%s is not available: %v", p.name, err)
			b.results.Missing[p.name] = oneLine(err)
			continue
		}
		if p.name == sluice && offers(path, allowPlain) {
			b.cfg.gatewayArgs = append(b.cfg.gatewayArgs, allowPlain)
		}
		if b.results.builds[p.name], err = buildOf(path); err != nil {
			return err
		}
		b.results.Versions[p.name] = p.describe(path)
		b.say("%s %s: %s", p.name, b.results.Versions[p.name], path)
		b.found = append(b.found, foundPeer{p, path})
	}
	return nil
}

// allowPlain is the flag without which the gateway calls nobody outside the mesh.
const allowPlain = "-allow-plain"

// offers reports whether a program knows a flag.
func offers(path, flag string) bool { return strings.Contains(help(path), " "+flag) }

// help is what a program says of its flags. Some end with an error after it.
func help(path string) string {
	said, _ := exec.Command(path, "-help").CombinedOutput()
	return string(said)
}

func copyProgram(from, to string) (string, error) {
	content, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	return to, os.WriteFile(to, content, 0o700)
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// start runs a peer with the given routes and waits until it serves one of the
// hits. Whoever gets a proxy stops it.
func (b *bench) start(ctx context.Context, p foundPeer, name string, routes []hostRoute, probe hit) (*proxy, error) {
	pl := plan{
		host: b.lab.host, port: b.lab.port(), admin: b.lab.port(), agent: b.lab.agent.address,
		credentials: b.lab.credentials, routes: routes, root: os.Geteuid() == 0,
		folder: filepath.Join(b.lab.folder, p.name+"-"+name), groups: p.groups,
	}
	if p.name == fabioRepaired {
		pl.help = help(p.path)
	}
	if p.ours {
		pl.extra = slices.Concat(b.cfg.gatewayArgs, p.args)
	}
	if err := os.MkdirAll(pl.folder, 0o700); err != nil {
		return nil, err
	}
	l, err := p.launch(pl)
	if err != nil {
		return nil, err
	}
	for file, content := range l.files {
		if err := os.WriteFile(pl.file(file), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	process, err := start(command{name: p.name, path: p.path, args: l.args, environment: p.environment, folder: pl.folder})
	if err != nil {
		return nil, err
	}
	started := &proxy{peer: p.peer, plan: pl, process: process}
	if err := b.lab.ready(ctx, process, started.serves(probe)); err != nil {
		started.stop()
		return nil, err
	}
	return started, nil
}

func (p *proxy) stop() { p.process.stop(grace) }

// serves returns a condition: the proxy answers a hit as the upstream does.
func (p *proxy) serves(h hit) func(context.Context) error {
	return func(ctx context.Context) error {
		status, size, _, err := ask(ctx, http.DefaultTransport, p.plan.listen(), h)
		switch {
		case err != nil:
			return err
		case status != http.StatusOK || size != bodySize:
			return fmt.Errorf("it answers %d with %d bytes", status, size)
		}
		return nil
	}
}

// ask sends one request to a proxy; instance is who answered.
func ask(ctx context.Context, transport http.RoundTripper, address string, h hit) (status int, size int64, instance string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+h.Path, nil)
	if err != nil {
		return 0, 0, "", err
	}
	request.Host = h.Host
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	size, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, size, response.Header.Get(instanceHeader), err
}

// round measures one proxy under one load, and repeats the round as long as others
// disturbed it; the least disturbed one counts.
func (b *bench) round(ctx context.Context, p *proxy, cfg loadConfig) (sample, error) {
	var tries []sample
	for range b.cfg.repeats + 1 {
		s, err := b.once(ctx, p, cfg)
		if err != nil {
			return sample{}, err
		}
		tries = append(tries, s)
		if !s.disturbed(b.cfg.disturbance) {
			return s, nil
		}
	}
	least := slices.MinFunc(tries, func(a, b sample) int { return int(1000 * (a.Others + a.Steal - b.Others - b.Steal)) })
	least.Disturbed = true
	return least, nil
}

func (b *bench) once(ctx context.Context, p *proxy, cfg loadConfig) (sample, error) {
	if b.cfg.warmUp > 0 {
		warm := cfg
		warm.Duration = b.cfg.warmUp
		if _, err := b.generator.send(ctx, warm); err != nil {
			return sample{}, err
		}
	}
	before, err := takeSnapshot(p.process.pid())
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w: %s", p.peer.name, err, p.process.tail())
	}
	result, err := b.generator.send(ctx, cfg)
	if err != nil {
		return sample{}, err
	}
	after, err := takeSnapshot(p.process.pid())
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w: %s", p.peer.name, err, p.process.tail())
	}
	return newSample(p.peer.name, result, before, after), nil
}
