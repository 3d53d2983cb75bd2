package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Client is one connection to a supervisor; it carries one call.
type Client struct {
	conn    *net.UnixConn
	writing sync.Mutex
}

// Dial connects to the supervisor whose socket is at path. The error is
// ErrNotRunning when there is none.
func Dial(ctx context.Context, path string) (*Client, error) {
	conn, err := dial(ctx, path)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn}, nil
}

// Do sends the request with its files, calls onProgress (which may be nil) for
// each event, in order, and returns the result. A failure that the server reports
// is an *Error. When ctx ends, the connection is closed, which ends the call on
// the server's side. Do may be called once.
func (c *Client) Do(ctx context.Context, op string, args any, files []*os.File, onProgress func(json.RawMessage)) (json.RawMessage, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	result, err := c.call(op, args, files, onProgress)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	return result, err
}

func (c *Client) call(op string, args any, files []*os.File, onProgress func(json.RawMessage)) (json.RawMessage, error) {
	request := Request{Op: op}
	if args != nil {
		data, err := json.Marshal(args)
		if err != nil {
			return nil, fmt.Errorf("encode arguments of %s: %w", op, err)
		}
		request.Args = data
	}
	sendErr := c.send(request, files)
	// A server that refuses us does so without reading, so its answer counts more
	// than that we could not write.
	reader := bufio.NewReader(c.conn)
	for {
		line, err := readLine(reader, maxReply)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op, lost(sendErr, err))
		}
		var answer reply
		if err := json.Unmarshal(line, &answer); err != nil {
			return nil, fmt.Errorf("%s: read answer: %w", op, err)
		}
		switch {
		case answer.Error != nil:
			return nil, answer.Error
		case answer.Progress != nil:
			if onProgress != nil {
				onProgress(answer.Progress)
			}
		default:
			return answer.Result, nil
		}
	}
}

// lost says why a connection ended without an answer.
func lost(sendErr, readErr error) error {
	if sendErr != nil {
		return fmt.Errorf("send request: %w", sendErr)
	}
	if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) || errors.Is(readErr, unix.ECONNRESET) {
		return errors.New("the lab ended before it answered")
	}
	return fmt.Errorf("read answer: %w", readErr)
}

// send writes a line, with files when there are any.
func (c *Client) send(message any, files []*os.File) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if len(data) > maxRequest {
		return fmt.Errorf("%d bytes are more than %d", len(data), maxRequest)
	}
	if len(files) > maxFiles {
		return fmt.Errorf("%d files are more than %d", len(files), maxFiles)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return err
	}
	n := 0
	if len(files) > 0 {
		descriptors := make([]int, len(files))
		for i, file := range files {
			descriptors[i] = int(file.Fd())
		}
		if n, _, err = c.conn.WriteMsgUnix(data, unix.UnixRights(descriptors...), nil); err != nil {
			return err
		}
	}
	_, err = c.conn.Write(data[n:])
	return err
}

// Signal forwards a signal to the call in progress. It may be called while Do
// runs; before Do it is out of turn.
func (c *Client) Signal(signal os.Signal) error {
	number, ok := signal.(syscall.Signal)
	if !ok {
		return fmt.Errorf("forward signal: %v is no signal of this system", signal)
	}
	return c.send(followUp{Signal: int(number)}, nil)
}

// Close ends the connection, and with it the call.
func (c *Client) Close() error { return c.conn.Close() }
