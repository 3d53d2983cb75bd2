// Package control is how the sluice command talks to the supervisor of a lab: one
// request for each connection over a Unix socket, newline-delimited JSON both
// ways, open files passed along.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
)

// ErrNotRunning means that no lab answers at the socket.
var ErrNotRunning = errors.New("no lab is running")

// ErrRunning means that a lab already answers at the socket.
var ErrRunning = errors.New("a lab is already running")

// Request is the first line of a connection.
type Request struct {
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

// Error is how a call failed, for people and for the exit code.
type Error struct {
	Message string `json:"message"`
	Code    int    `json:"code"`           // the exit code that the client should end with
	Hint    string `json:"hint,omitempty"` // one command or step that fixes it
}

func (e *Error) Error() string { return e.Message }

// ExitCode returns Code.
func (e *Error) ExitCode() int { return e.Code }

// Handler answers one call. ctx ends when the client goes away. The error may
// have ExitCode() int and Hint() string, which reach the client.
type Handler func(ctx context.Context, call *Call) error

// Call is one request on the server's side.
type Call struct {
	Request
	Files   []*os.File       // passed by the client; closed when the handler returns
	Signals <-chan os.Signal // forwarded by the client
}

// Decode reads the arguments into v and refuses unknown fields.
func (c *Call) Decode(v any) error { return nil }

// Progress sends an event to the client.
func (c *Call) Progress(v any) error { return nil }

// Result sends the final value.
func (c *Call) Result(v any) error { return nil }

// Listen makes the socket.
func Listen(path string) (*net.UnixListener, error) { return nil, errors.New("not implemented") }

// ListenerFromFile takes over an inherited listener.
func ListenerFromFile(file *os.File) (*net.UnixListener, error) {
	return nil, errors.New("not implemented")
}

// Serve answers calls until ctx ends.
func Serve(ctx context.Context, l *net.UnixListener, handlers map[string]Handler, logger *slog.Logger) error {
	return errors.New("not implemented")
}

// Client is one connection to a supervisor; it carries one call.
type Client struct{}

// Dial connects to the supervisor.
func Dial(ctx context.Context, path string) (*Client, error) {
	return nil, errors.New("not implemented")
}

// Do sends a request and waits for its end.
func (c *Client) Do(ctx context.Context, op string, args any, files []*os.File, onProgress func(json.RawMessage)) (json.RawMessage, error) {
	return nil, errors.New("not implemented")
}

// Signal forwards a signal to the call in progress.
func (c *Client) Signal(signal os.Signal) error { return nil }

// Close ends the connection, and with it the call.
func (c *Client) Close() error { return nil }
