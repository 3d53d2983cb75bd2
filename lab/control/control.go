// Package control is how the sluice command talks to the supervisor of a lab: one
// call for each connection over a Unix socket, newline-delimited JSON both ways,
// open files passed along with the request.
//
//	client: {"op":"exec","args":{...}}   with up to 8 files
//	client: {"signal":2}                 any number of times
//	server: {"progress":...}             any number of times
//	server: {"result":...} or {"error":{"message":...,"code":...,"hint":...}}
//
// The socket is the lab's only door for commands, so it is 0600 in a folder that
// is 0700, and the server also asks the kernel who the peer is. A call ends when
// its client goes away.
package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// Bounds of the protocol.
const (
	maxRequest = 1 << 20  // bytes of a line that the server reads
	maxReply   = 16 << 20 // bytes of a line that the client reads
	maxFiles   = 8
	maxCalls   = 64 // at once
)

// Exit codes that the package itself assigns.
const (
	codeUsage = 2 // usage or tool error
)

// Errors of Dial and Listen.
var (
	// ErrNotRunning means that no lab answers at the socket.
	ErrNotRunning = errors.New("no lab is running")
	// ErrRunning means that a lab already answers at the socket.
	ErrRunning = errors.New("a lab is already running")
)

// Request is the first line of a connection.
type Request struct {
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

// followUp is a later line of the client.
type followUp struct {
	Signal int `json:"signal"`
}

// reply is a line of the server. Exactly one field is set.
type reply struct {
	Progress json.RawMessage `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
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

// describe makes an Error of what a handler returned.
func describe(err error) *Error {
	described := &Error{Message: err.Error(), Code: codeUsage}
	var own *Error
	if errors.As(err, &own) {
		described.Code, described.Hint = own.Code, own.Hint
	}
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		described.Code = coded.ExitCode()
	}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		described.Hint = hinted.Hint()
	}
	return described
}

// decode reads exactly one JSON value into v and refuses unknown fields.
func decode(data []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

// parseRequest reads the first line of a connection.
func parseRequest(line []byte) (Request, error) {
	var request Request
	if err := decode(line, &request); err != nil {
		return Request{}, fmt.Errorf("parse request: %w", err)
	}
	if request.Op == "" {
		return Request{}, errors.New("parse request: it names no operation")
	}
	return request, nil
}

// parseFollowUp reads a later line of the client.
func parseFollowUp(line []byte) (os.Signal, error) {
	var message followUp
	if err := decode(line, &message); err != nil {
		return nil, fmt.Errorf("parse message: %w", err)
	}
	switch signal := syscall.Signal(message.Signal); signal {
	case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT:
		return signal, nil
	default:
		return nil, fmt.Errorf("parse message: signal %d is not one that is forwarded", message.Signal)
	}
}
