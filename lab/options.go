package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sluice/datacenters"
	"sluice/intentions"
	"sluice/internal/binaries"
	"sluice/lab/control"
	"sluice/lab/engine"
)

// options settles everything that can be settled before anything is started.
func (c UpConfig) options(ctx context.Context, layout Layout) (Options, error) {
	if c.PortOffset < 0 || c.PortOffset > 20000 {
		return Options{}, fail(control.ExitUsage, "", "--port-offset %d: want 0 to 20000", c.PortOffset)
	}
	if !slices.Contains([]string{"auto", string(engine.Netns), string(engine.Loopback)}, c.Engine) {
		return Options{}, fail(control.ExitUsage, "", "--engine %s: want auto, netns or loopback", c.Engine)
	}
	profile, err := chooseProfile(layout, c.Profile)
	if err != nil {
		return Options{}, err
	}
	topology, err := datacenters.Load(c.Topology...)
	if errors.Is(err, os.ErrNotExist) {
		return Options{}, fail(control.ExitUsage, "sluice up --dir FOLDER, with the folder of the project", "%v", err)
	}
	if err != nil {
		return Options{}, fail(control.ExitUsage, "", "%v", err)
	}
	if c.Second && len(topology.Datacenters) == 1 {
		return Options{}, fail(control.ExitUsage, "sluice up --dc2 --dir FOLDER, with datacenters/dc2.hcl below it", "--dc2: the topology has no second datacenter")
	}
	if err := checkIntentions(c.IntentionsDir, c.Notice); err != nil {
		return Options{}, err
	}
	programs, err := c.Programs.find()
	if err != nil {
		return Options{}, fail(control.ExitMissing, "make up", "%v", err)
	}
	kind, unprivileged, err := chooseEngine(ctx, c.Engine, c.Notice)
	if err != nil {
		return Options{}, err
	}
	if longest := len(layout.AgentSocket("gateway-1")); kind == engine.Loopback && longest > maxSocketPath {
		return Options{}, fail(control.ExitUsage, "sluice up --state /tmp/sluice-"+fmt.Sprint(os.Getuid()), "the path of the state folder is %d characters too long for the agents' sockets", longest-maxSocketPath)
	}
	files, err := absolute(append([]string{c.IntentionsDir}, c.Topology...)...)
	if err != nil {
		return Options{}, err
	}
	options := Options{
		State: layout.Root(), Topology: files[1:], IntentionsDir: files[0],
		Engine: kind, Unprivileged: unprivileged, PortOffset: c.PortOffset, Index: loopbackIndex(c.PortOffset), Profile: profile,
		Programs: programs, Timeout: c.Timeout, Started: time.Now(),
	}
	primary, _ := topology.Primary()
	options.addHosts(primary)
	for _, dc := range topology.Datacenters {
		if dc.Name == primary.Name {
			continue
		}
		options.addHosts(dc)
		if c.Second {
			options.Second = append(options.Second, dc.Name)
		}
	}
	return options, nil
}

// addHosts adds what the host offers of a datacenter.
func (o *Options) addHosts(dc datacenters.Datacenter) {
	for _, port := range []struct {
		name   string
		number int
	}{{"gateway", dc.Ports.Gateway}, {"admin", dc.Ports.Admin}, {"consul", dc.Ports.Consul}} {
		o.Hosts = append(o.Hosts, HostPort{
			Name: port.name, Datacenter: dc.Name, Address: fmt.Sprintf("127.0.0.1:%d", port.number+o.PortOffset),
		})
	}
}

// checkIntentions refuses intentions that are wrong while nothing has started yet.
func checkIntentions(dir string, notice func(string)) error {
	entries, err := intentions.Load(dir)
	if err != nil {
		return fail(control.ExitUsage, "", "%v", err)
	}
	problems := intentions.Validate(entries, ServiceNames())
	if err := problems.Err(); err != nil {
		return fail(control.ExitUsage, "", "%v", err)
	}
	for _, problem := range problems {
		notice(problem.String())
	}
	return nil
}

// loopbackIndex keeps two labs on one loopback apart by the second octet of
// their addresses. Octet 0 is shared with the rest of the machine's 127.0.0.x,
// which the lab does not use.
func loopbackIndex(offset int) int { return offset % 251 }

func absolute(paths ...string) ([]string, error) {
	result := make([]string, len(paths))
	for i, path := range paths {
		var err error
		if result[i], err = filepath.Abs(path); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// find fills in what is empty.
func (p Programs) find() (Programs, error) {
	self, err := os.Executable()
	if err != nil {
		return p, fmt.Errorf("find this program's folder: %w", err)
	}
	own := func(path *string, name string) error {
		if *path == "" {
			*path = filepath.Join(filepath.Dir(self), name)
		}
		if _, err := os.Stat(*path); err != nil {
			return fmt.Errorf("%s is not beside sluice: %w", name, err)
		}
		return nil
	}
	if err := errors.Join(own(&p.Web, "web"), own(&p.MongoAgent, "mongo-agent"), own(&p.Gateway, "gateway")); err != nil {
		return p, err
	}
	if p.Consul == "" {
		if p.Consul, err = binaries.Consul(); err != nil {
			return p, err
		}
	}
	if p.Mongod == "" {
		if p.Mongod, err = binaries.Mongod(); err != nil {
			return p, err
		}
	}
	return p, nil
}

// maxSocketPath is how long the path of a Unix socket may be on Linux (unix(7):
// 108 bytes with the final zero).
const maxSocketPath = 107

// chooseEngine takes the best engine that works here, or the one that was asked
// for if it does.
func chooseEngine(ctx context.Context, wanted string, notice func(string)) (engine.Kind, bool, error) {
	self, err := os.Executable()
	if err != nil {
		return "", false, err
	}
	if wanted == string(engine.Loopback) {
		return engine.Loopback, false, nil
	}
	capabilities := engine.Probe(ctx, self)
	if err := ctx.Err(); err != nil {
		return "", false, err
	}
	for _, capability := range capabilities {
		if capability.Kind != engine.Netns {
			continue
		}
		if capability.OK {
			return engine.Netns, capability.Unprivileged, nil
		}
		if wanted == string(engine.Netns) {
			return "", false, fail(control.ExitMissing, "sluice up --engine loopback", "the netns engine does not work here: %s", capability.Reason)
		}
		notice("using the loopback engine, which does not keep nodes apart: " + capability.Reason)
	}
	return engine.Loopback, false, nil
}
