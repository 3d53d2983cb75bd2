package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	gatewayService  = "gateway"
	upstreamService = "bench"
	// patience is how long a program may take until it serves.
	patience = 30 * time.Second
	grace    = 3 * time.Second
)

// The upstream's ports.
const (
	mtlsPort       = 8443
	mtlsClosePort  = 8444
	plainPort      = 8080
	plainClosePort = 8081
	firstPort      = 20_000
)

// lab is what every proxy stands in front of: a Consul agent and an upstream, on a
// loopback address that nobody else uses.
type lab struct {
	folder, host string
	// self is our own program.
	self        string
	agent       agent
	credentials credentials
	consul      *process
	upstream    *process
	lastPort    int
}

// startLab starts the agent and the upstream. Whoever gets a lab closes it.
func startLab(ctx context.Context, log io.Writer) (_ *lab, err error) {
	path, err := consulPath()
	if err != nil {
		return nil, err
	}
	l := &lab{lastPort: firstPort}
	if l.self, err = os.Executable(); err != nil {
		return nil, err
	}
	// Keys are in it: MkdirTemp makes it 0700.
	if l.folder, err = os.MkdirTemp("", "bench-gateway-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.host, err = freeHost(); err != nil {
		return nil, err
	}
	fmt.Fprintf(log, "bench: starting Consul and the upstream on %s\n", l.host)
	l.agent = agent{address: l.join(8500), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}
	if err := l.startConsul(ctx, path); err != nil {
		return nil, err
	}
	if err := l.agent.intend(ctx, upstreamService, "allow"); err != nil {
		return nil, err
	}
	if l.credentials, err = l.agent.write(ctx, l.folder); err != nil {
		return nil, err
	}
	l.upstream, err = l.startUpstream(ctx, upstreamConfig{
		service: upstreamService, instance: upstreamService, mtls: mtlsPort, mtlsClose: mtlsClosePort, plain: plainPort, plainClose: plainClosePort,
	})
	return l, err
}

func (l *lab) startConsul(ctx context.Context, path string) error {
	config, err := json.Marshal(map[string]any{
		"node_name": "bench", "datacenter": datacenter, "default_intention_policy": "deny", "disable_update_check": true,
		"ports":  map[string]int{"dns": -1, "grpc": -1, "grpc_tls": -1},
		"limits": map[string]int{"http_max_conns_per_client": 4000},
	})
	if err != nil {
		return err
	}
	file := filepath.Join(l.folder, "consul.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	l.consul, err = start(command{
		name: "consul", path: path, folder: l.folder,
		args: []string{"agent", "-dev", "-bind", l.host, "-client", l.host, "-log-level", "warn", "-config-file", file},
	})
	if err != nil {
		return err
	}
	return l.ready(ctx, l.consul, l.agent.working)
}

// startUpstream runs an upstream process and waits until it accepts.
func (l *lab) startUpstream(ctx context.Context, cfg upstreamConfig) (*process, error) {
	cfg.agent, cfg.host = l.agent.address, l.host
	p, err := start(command{name: cfg.instance, path: l.self, args: cfg.args(), folder: l.folder})
	if err != nil {
		return nil, err
	}
	if err := l.ready(ctx, p, accepts(l.join(cfg.mtls))); err != nil {
		p.stop(grace)
		return nil, err
	}
	return p, nil
}

// ready waits until a program serves, or has ended instead.
func (l *lab) ready(ctx context.Context, p *process, serves func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := await(ctx, patience, p.name+" serves", func(ctx context.Context) error {
		if p.gone() {
			defer cancel()
			return errors.New("it has ended")
		}
		return serves(ctx)
	})
	if said := p.tail(); err != nil && said != "" {
		return fmt.Errorf("%w; it said: %s", err, said)
	}
	return err
}

// close ends everything and deletes the folder with the keys.
func (l *lab) close() {
	l.upstream.stop(grace)
	l.consul.stop(grace)
	if l.agent.client != nil {
		l.agent.client.CloseIdleConnections()
	}
	_ = os.RemoveAll(l.folder)
}

func (l *lab) join(port int) string { return net.JoinHostPort(l.host, strconv.Itoa(port)) }

// port returns a port that nothing in the lab had before.
func (l *lab) port() int {
	l.lastPort++
	return l.lastPort
}

func accepts(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// freeHost returns a loopback address on which Consul's port is free.
func freeHost() (string, error) {
	for range 100 {
		host := fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(180), rand.IntN(256), 1+rand.IntN(250))
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "8300"))
		if err == nil {
			return host, listener.Close()
		}
	}
	return "", errors.New("no free loopback address")
}

func consulPath() (string, error) {
	folder, err := cache("bin")
	if err != nil {
		return "", err
	}
	path, err := find("consul", "SLUICE_CONSUL", folder)
	if err != nil {
		return "", fmt.Errorf("%w: %w; get it with: make tools", errMissing, err)
	}
	return path, nil
}
