package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"
)

// clients are one HTTP client for each container that was asked, whose connection stays
// open: a docker exec costs more than all that is asked over it.
type composeClients struct {
	mu  sync.Mutex
	all map[string]*http.Client
}

// client asks the processes of a container's node over pipes of docker exec. Nothing but
// the host's ports is published, and the operations endpoints are on no address that the
// host could reach.
func (c *ComposeLab) client(id string) *http.Client {
	c.clients.mu.Lock()
	defer c.clients.mu.Unlock()
	if known, ok := c.clients.all[id]; ok {
		return known
	}
	dial := func(ctx context.Context, _, address string) (net.Conn, error) { return openPipe(ctx, id, address) }
	client := &http.Client{Timeout: composeAnswer, Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 1}}
	if c.clients.all == nil {
		c.clients.all = map[string]*http.Client{}
	}
	c.clients.all[id] = client
	return client
}

// composeAnswer is how long a process may take to answer, the start of docker exec
// included: on a busy machine ten at once take seconds.
const composeAnswer = 10 * time.Second

// Close ends the connections to the containers.
func (c *ComposeLab) Close() {
	c.clients.mu.Lock()
	defer c.clients.mu.Unlock()
	for _, client := range c.clients.all {
		client.CloseIdleConnections()
	}
}

// pipe is a connection to an address inside a container, over the standard files of a
// docker exec.
type pipe struct {
	in      io.WriteCloser
	out     io.ReadCloser
	command *exec.Cmd
	address pipeAddress
	close   func() error
}

// pipeGrace is how long a docker exec may take to end after its standard input has.
const pipeGrace = 2 * time.Second

// openPipe starts the docker exec. ctx bounds that alone, as with any dialer.
func openPipe(ctx context.Context, id, address string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	command := exec.Command("docker", "exec", "-i", id, "/bin/sluice", "compose", "pipe", address)
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("docker exec: %w", err)
	}
	p := &pipe{in: in, out: out, command: command, address: pipeAddress(address)}
	p.close = sync.OnceValue(p.end)
	return p, nil
}

func (p *pipe) end() error {
	err := p.in.Close()
	timer := time.AfterFunc(pipeGrace, func() { _ = p.command.Process.Kill() })
	defer timer.Stop()
	var ended *exec.ExitError
	if waited := p.command.Wait(); waited != nil && !errors.As(waited, &ended) {
		err = errors.Join(err, waited)
	}
	return err
}

func (p *pipe) Read(b []byte) (int, error)  { return p.out.Read(b) }
func (p *pipe) Write(b []byte) (int, error) { return p.in.Write(b) }
func (p *pipe) Close() error                { return p.close() }
func (p *pipe) LocalAddr() net.Addr         { return pipeAddress("docker exec") }
func (p *pipe) RemoteAddr() net.Addr        { return p.address }

// Whoever has a deadline closes the connection at it: pipes have none.
func (p *pipe) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (p *pipe) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (p *pipe) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// pipeAddress is what a pipe leads to.
type pipeAddress string

func (pipeAddress) Network() string  { return "docker" }
func (a pipeAddress) String() string { return string(a) }
