package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sluice/internal/binaries"
	"sluice/lab/engine"
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
		Example: "  sluice doctor",
		RunE: func(command *cobra.Command, _ []string) error {
			findings, err := examine(command)
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
					fmt.Fprintf(a.std.out, "%-8s %-16s %s\n", grade(f), f.What, f.Detail)
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

func examine(command *cobra.Command) ([]finding, error) {
	var findings []finding
	for _, program := range []struct {
		name string
		find func() (string, error)
	}{{"consul", binaries.Consul}, {"mongod", binaries.Mongod}} {
		path, err := program.find()
		f := finding{What: program.name, OK: err == nil, Needed: true, Detail: path}
		if err != nil {
			f.Detail = err.Error()
		}
		findings = append(findings, f)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, capability := range engine.Probe(command.Context(), self) {
		f := finding{What: "engine " + string(capability.Kind), OK: capability.OK, Detail: capability.Reason}
		if f.OK {
			f.Detail = "works"
			if capability.Kind == engine.Netns && capability.Unprivileged {
				f.Detail = "works without root, in a user namespace"
			}
		}
		findings = append(findings, f)
	}
	return findings, nil
}
