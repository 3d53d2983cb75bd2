package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// config says what is measured, and for how long.
type config struct {
	// gateway is the path of the gateway's binary; it is copied before it runs.
	gateway string
	// gatewayArgs are added to the gateway's flags.
	gatewayArgs []string
	// out is the folder that results.json is written to; page is the file whose
	// marked part is replaced, "" for none.
	out, page string
	// peers and scenarios are names; empty is all.
	peers, scenarios []string
	rounds           int
	round, warmUp    time.Duration
	connections      int
	// idle is how many idle client connections there are, restarts how many times
	// every upstream is restarted, changes how many changes of each kind are timed.
	idle, restarts, changes int
	// rate is the constant rate of scenario "rate", in requests a second; 0 is 70 %
	// of Fabio's best.
	rate float64
	// disturbance is the share of the machine, in percent, that others or the
	// hypervisor may use during a round; repeats is how often such a round is done
	// again.
	disturbance float64
	repeats     int
	// add keeps what results.json has of other scenarios.
	add   bool
	short bool
}

// parse reads the flags. The error is flag.ErrHelp after -help.
func parse(args []string, log io.Writer) (config, error) {
	var cfg config
	var peers, scenarios, extra string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(log)
	flags.StringVar(&cfg.gateway, "gateway", "bin/gateway", "`path` of the gateway's binary")
	flags.StringVar(&extra, "gateway-args", "", "further `flags` for the gateway, with blanks between")
	flags.StringVar(&cfg.out, "out", "bench-gateway", "`folder` for results.json")
	flags.StringVar(&cfg.page, "page", "", "`file` whose marked part is replaced by the table")
	flags.StringVar(&peers, "peers", "", "`names`, with commas: "+strings.Join(peerNames(), ","))
	flags.StringVar(&scenarios, "scenarios", "", "`names`, with commas: "+strings.Join(scenarioNames(), ","))
	flags.IntVar(&cfg.rounds, "rounds", 3, "rounds of each proxy in each scenario; the median counts")
	flags.DurationVar(&cfg.round, "round", 8*time.Second, "`time` of one round")
	flags.DurationVar(&cfg.warmUp, "warm-up", time.Second, "`time` of load before a round is measured")
	flags.IntVar(&cfg.connections, "connections", 64, "client connections that carry requests")
	flags.IntVar(&cfg.idle, "idle", 10_000, "idle client connections in scenario idle")
	flags.IntVar(&cfg.restarts, "restarts", 10, "rolling restarts of all upstreams in scenario restart")
	flags.IntVar(&cfg.changes, "changes", 100, "changes of each kind in scenario effect")
	flags.Float64Var(&cfg.rate, "rate", 0, "requests a second in scenario rate; 0 is 70 % of Fabio's best, or of the slowest peer's where there is no Fabio")
	flags.Float64Var(&cfg.disturbance, "disturbance", 10, "`percent` of the machine that others may use in a round")
	flags.IntVar(&cfg.repeats, "repeats", 3, "how often a disturbed round is repeated")
	flags.BoolVar(&cfg.add, "add", false, "keep what results.json has of the scenarios that are not measured now, if it is of the same builds")
	flags.BoolVar(&cfg.short, "short", false, "about 2 minutes: scenario mtls alone, 2 rounds of 3 s; the page is left alone")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	cfg.peers, cfg.scenarios, cfg.gatewayArgs = split(peers), split(scenarios), strings.Fields(extra)
	if cfg.short {
		given := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		cfg.shorten(given)
	}
	return cfg, cfg.validate(flags.Args())
}

// shorten lowers what the caller did not give. The page keeps the long table.
func (cfg *config) shorten(given map[string]bool) {
	cfg.page = ""
	if !given["scenarios"] {
		cfg.scenarios = []string{"mtls"}
	}
	if !given["rounds"] {
		cfg.rounds = 2
	}
	if !given["round"] {
		cfg.round = 3 * time.Second
	}
	if !given["repeats"] {
		cfg.repeats = 1
	}
}

func (cfg *config) validate(rest []string) error {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(rest) > 0 {
		add("arguments that nothing reads: %s", strings.Join(rest, " "))
	}
	for _, name := range cfg.peers {
		if !slices.Contains(peerNames(), name) {
			add("-peers: no peer %q; there are %s", name, strings.Join(peerNames(), ", "))
		}
	}
	for _, name := range cfg.scenarios {
		if !slices.Contains(scenarioNames(), name) {
			add("-scenarios: no scenario %q; there are %s", name, strings.Join(scenarioNames(), ", "))
		}
	}
	for name, value := range map[string]int{"rounds": cfg.rounds, "connections": cfg.connections, "idle": cfg.idle, "restarts": cfg.restarts, "changes": cfg.changes} {
		if value < 1 {
			add("-%s %d: at least 1", name, value)
		}
	}
	if cfg.round < 100*time.Millisecond {
		add("-round %v: at least 100ms, or the clock of CPU time, which ticks every 10 ms, says nothing", cfg.round)
	}
	if cfg.warmUp < 0 || cfg.repeats < 0 || cfg.rate < 0 || cfg.disturbance < 0 {
		add("-warm-up, -repeats, -rate and -disturbance are not negative")
	}
	return errors.Join(problems...)
}

// settings are what a reader of the figures must know of the command line.
func (cfg *config) settings() string {
	text := fmt.Sprintf("%d client connections, %d rounds of %v each", cfg.connections, cfg.rounds, cfg.round)
	if len(cfg.gatewayArgs) > 0 {
		text += "; sluice with " + strings.Join(cfg.gatewayArgs, " ")
	}
	return text
}

// wants reports whether a name was chosen; no choice is everything.
func wants(chosen []string, name string) bool {
	return len(chosen) == 0 || slices.Contains(chosen, name)
}

func split(names string) []string {
	if names == "" {
		return nil
	}
	return strings.Split(names, ",")
}
