package main

import (
	"context"
	"errors"
	"fmt"
	goversion "go/version"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/internal/binaries"
	"sluice/lab/engine"
	"sluice/lab/hostport"
)

// finding is one thing that doctor looked at.
type finding struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	// Needed is false where the lab works without it, with less.
	Needed bool   `json:"needed"`
	Detail string `json:"detail"`
}

func newDoctor(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "What this machine has and lacks; exit code 4 when something needed is missing", Args: cobra.NoArgs,
		Long: `What this machine has and lacks. "without" is what the lab runs without, with
less; "MISSING" is what it cannot run without.`,
		Example: "  sluice doctor\n  sluice doctor -o json",
		RunE: func(command *cobra.Command, _ []string) error {
			findings, err := examine(command.Context())
			if err != nil {
				return err
			}
			if a.json() {
				if err := a.print(findings); err != nil {
					return err
				}
			}
			missing := false
			for _, f := range findings {
				missing = missing || (f.Needed && !f.OK)
				if !a.json() {
					fmt.Fprintf(a.std.out, "%-8s %-16s %s\n", grade(f), f.What, a.std.proposal(f.Detail))
				}
			}
			if missing {
				return &codeError{code: exitMissing}
			}
			return nil
		},
	}
}

func grade(f finding) string {
	switch {
	case f.OK:
		return "ok"
	case f.Needed:
		return "MISSING"
	default:
		return "without"
	}
}

func examine(ctx context.Context) ([]finding, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	consul, mongod := program("consul", binaries.Consul), program("mongod", binaries.Mongod)
	findings := []finding{consul, mongod, goTool(ctx)}
	if !mongod.OK {
		findings = append(findings, pip(ctx))
	}
	for _, capability := range engine.Probe(ctx, self) {
		f := finding{What: "engine " + string(capability.Kind), OK: capability.OK, Detail: capability.Reason}
		if f.OK {
			f.Detail = "works"
			if capability.Kind == engine.Netns && capability.Unprivileged {
				f.Detail = "works without root, in a user namespace"
			}
		}
		findings = append(findings, f)
	}
	for _, door := range []string{"127.0.0.1:9999", "127.0.0.1:9998", "127.0.0.1:8500"} {
		findings = append(findings, port(door))
	}
	return findings, nil
}

func program(name string, find func() (string, error)) finding {
	path, err := find()
	if err != nil {
		return finding{What: name, Needed: true, Detail: err.Error()}
	}
	return finding{What: name, OK: true, Needed: true, Detail: path}
}

// toolTimeout bounds a program that is only asked for its version.
const toolTimeout = 10 * time.Second

// goTool looks for what make builds with. The lab itself runs without.
func goTool(ctx context.Context) finding {
	f := finding{What: "go", Detail: "not on PATH; make wants " + goNeeded + " or newer, see go.dev/doc/install"}
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	// What is installed is asked for: not what a module here would have fetched.
	command.Dir, command.Env = "/", append(os.Environ(), "GOTOOLCHAIN=local")
	answer, err := command.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return f
	}
	if err != nil {
		f.Detail = fmt.Sprintf("go env GOVERSION: %v", err)
		return f
	}
	return judgeGo(strings.TrimSpace(string(answer)))
}

// goNeeded is the version that go.mod names.
const goNeeded = "go1.26"

func judgeGo(found string) finding {
	f := finding{What: "go", Detail: found, OK: goversion.IsValid(found) && goversion.Compare(found, goNeeded) >= 0}
	if !f.OK {
		f.Detail += "; make wants " + goNeeded + " or newer, see go.dev/doc/install"
	}
	return f
}

// pip looks for what make tools gets mongod with.
func pip(ctx context.Context) finding {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	if err := exec.CommandContext(ctx, "python3", "-m", "pip", "--version").Run(); err != nil {
		return finding{What: "python3 pip", Detail: "make tools gets mongod with it: sudo apt-get install -y python3-pip"}
	}
	return finding{What: "python3 pip", OK: true, Detail: "make tools can get mongod"}
}

// port looks whether one of the lab's usual places on the host is free.
func port(address string) finding {
	f := finding{What: "port " + address[strings.LastIndex(address, ":")+1:]}
	listener, err := hostport.Bind(address)
	if err != nil {
		f.Detail = err.Error() + "; a running lab is no harm, else: sluice up --port-offset 100"
		return f
	}
	_ = listener.Close()
	f.OK, f.Detail = true, "free"
	return f
}
