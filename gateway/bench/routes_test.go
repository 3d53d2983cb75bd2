package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTenThousandRoutesHaveTwoThousandHostsOfWhichATenthAreWildcards(t *testing.T) {
	routes, hosts, wild := makeRoutes(10_000), map[string]bool{}, map[string]bool{}
	for _, r := range routes {
		hosts[r.Host] = true
		if _, ok := r.wildcard(); ok {
			wild[r.Host] = true
		}
	}
	if len(routes) != 10_000 || len(hosts) != 2_000 || len(wild) != 200 {
		t.Errorf("%d routes, %d hosts, %d wildcards", len(routes), len(hosts), len(wild))
	}
	for _, of := range []int{10, 10_000} {
		seen, routes := map[hit]bool{}, makeRoutes(of)
		served := map[hostRoute]bool{}
		for _, h := range hits(routes, 1_000) {
			if strings.Contains(h.Host, "*") {
				t.Errorf("%s is no host that a client could ask for", h.Host)
			}
			path, _, _ := strings.Cut(h.Path, "item")
			seen[h], served[hostRoute{h.Host, path}] = true, true
		}
		if len(seen) != 1_000 || len(served) != min(of, 1_000) {
			t.Errorf("%d routes: %d different requests, to %d routes", of, len(seen), len(served))
		}
	}
}

func TestSizesOfTheTableTakeTheirMedianMemoryInOrder(t *testing.T) {
	r := residents{{"routes-10000", sluice}: {70, 90, 80}, {"routes-10", nginx}: {7}, {"routes-10", sluice}: {50, 40}}
	got := r.values([]foundPeer{{peer: peer{name: sluice}}, {peer: peer{name: nginx}}})
	want := []value{
		{Scenario: "routes-10", Peer: sluice, Name: "resident", Unit: "MB", Value: 45, Note: "after a round"},
		{Scenario: "routes-10", Peer: nginx, Name: "resident", Unit: "MB", Value: 7, Note: "after a round"},
		{Scenario: "routes-10000", Peer: sluice, Name: "resident", Unit: "MB", Value: 80, Note: "after a round"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestEveryLayoutDeclaresAllRoutesAndServesSomeOfThem(t *testing.T) {
	routes := makeRoutes(10_000)
	many, served := inManyServices(routes, "127.9.9.9", manyServices)
	for name, l := range map[string]struct {
		instances []instance
		services  int
	}{
		"one service":   {inOneService(routes, "127.9.9.9"), 1},
		"many services": {many, manyServices},
	} {
		tags, services, ids := map[string]bool{}, map[string]bool{}, map[string]bool{}
		for _, i := range l.instances {
			services[i.Name], ids[i.ID] = true, true
			for _, tag := range i.Tags {
				tags[tag] = true
			}
		}
		if len(tags) != len(routes) || len(services) != l.services || len(ids) != len(l.instances) || !services[upstreamService] {
			t.Errorf("%s: %d routes of %d services, %d instances of %d names", name, len(tags), len(services), len(l.instances), len(ids))
		}
	}
	for _, i := range many[:routeInstances] {
		if i.Name != upstreamService || len(i.Tags) != len(served) || i.Tags[0] != "urlprefix-"+served[0].Host+served[0].Path {
			t.Errorf("%s has %d routes, want the %d that are asked for", i.ID, len(i.Tags), len(served))
		}
	}
}

func TestEachLayoutIsHeldToTheBarsByItself(t *testing.T) {
	for _, name := range []string{layoutOne, layoutMany} {
		for figure, limit := range map[string]float64{"p99 ratio": 1.2, "rebuild": 6, "resident more": 26, "effect p99": 101} {
			r := newResults(time.Now(), "a machine")
			r.Values = []value{{Scenario: name, Peer: sluice, Name: figure, Value: limit}, {Scenario: name, Peer: nginx, Name: figure, Value: 0}}
			found := 0
			for _, b := range judge(r) {
				if b.Verdict == missed {
					found++
				}
			}
			if found != 1 {
				t.Errorf("%s, %s of %g: %d bars are missed, want 1", name, figure, limit, found)
			}
		}
	}
}
