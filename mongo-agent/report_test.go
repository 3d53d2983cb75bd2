package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/internal/fakemongod"
	"sluice/internal/mongotest"
	"sluice/mongo-agent/role"
)

func TestEveryMemberTellsHowFarAMajorityHasComeAndWhatTheOthersSaidOfIt(t *testing.T) {
	c, _ := startComplete(t)
	for _, a := range c.agents {
		mongotest.Wait(t, 10*time.Second, a.Node+" tells it", func(context.Context) error {
			r := a.report()
			switch {
			case !r.Voter:
				return fmt.Errorf("it takes itself for no voter")
			case r.Majority == nil || r.Majority.OpTime == role.OpTime{} || time.Since(r.Majority.At) > time.Minute || r.Majority.At.After(time.Now()):
				return fmt.Errorf("it tells %+v", r.Majority)
			case time.Duration(r.Majority.Told) > time.Minute:
				return fmt.Errorf("it has told that %v ago", time.Duration(r.Majority.Told))
			}
			for _, p := range r.Peers {
				if p.Majority.OpTime == (role.OpTime{}) || p.Majority.At.IsZero() {
					return fmt.Errorf("of %s it tells %+v", p.Node, p.Majority)
				}
			}
			return nil
		})
	}
}

func TestAMemberThatTheConfigurationDoesNotElectIsNoVoter(t *testing.T) {
	tr := startTroupe(t, func(_ int, cfg *fakemongod.Config, o *options) {
		cfg.Hosts = slices.Clone(cfg.Hosts[:2])
		o.Members = slices.Clone(o.Members)
		o.Members[2].Datacenter = "dc2" // else the first agent would admit it
	})
	tr.elect(0, 1)
	for i, want := range []struct {
		voter bool
		peers int
	}{{true, 1}, {true, 1}, {false, 2}} {
		mongotest.Wait(t, 10*time.Second, fmt.Sprintf("%s is a voter: %t", tr.agents[i].Node, want.voter), func(context.Context) error {
			if r := tr.agents[i].report(); r.Voter != want.voter || len(r.Peers) != want.peers || !r.State.Served() {
				return fmt.Errorf("voter %t, %d others, %s", r.Voter, len(r.Peers), r.State)
			}
			return nil
		})
	}
}
