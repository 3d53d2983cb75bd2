package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of one call, and of a server that cannot accept.
const (
	requestWait = 5 * time.Second  // for the request to arrive
	writeWait   = 10 * time.Second // for the client to take a line
	acceptPause = 100 * time.Millisecond
)

var errTooLong = errors.New("the answer is too long")

// Handler answers one call. ctx ends when the client goes away. The error may
// have ExitCode() int and Hint() string, or be an *Error; both reach the client.
type Handler func(ctx context.Context, call *Call) error

// Call is one request on the server's side. Its methods may be called by several
// goroutines at once, until the handler returns.
type Call struct {
	Request
	Files   []*os.File       // passed by the client; closed when the handler returns
	Signals <-chan os.Signal // forwarded by the client; the newest is lost when nobody reads

	conn   *net.UnixConn
	mu     sync.Mutex
	result json.RawMessage
}

// Decode reads the arguments into v and refuses unknown fields. No arguments
// leave v as it is.
func (c *Call) Decode(v any) error {
	if len(c.Args) == 0 {
		return nil
	}
	if err := decode(c.Args, v); err != nil {
		return &Error{Message: fmt.Sprintf("arguments of %s: %v", c.Op, err), Code: codeUsage}
	}
	return nil
}

// Progress sends an event to the client at once.
func (c *Call) Progress(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode progress: %w", err)
	}
	return c.send(reply{Progress: data})
}

// Result sets the value that the client gets when the handler returns nil.
func (c *Call) Result(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result = data
	return nil
}

func (c *Call) send(message reply) error {
	data, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode reply: %w", err)
	}
	if len(data) >= maxReply {
		return fmt.Errorf("%w: %d bytes, of at most %d", errTooLong, len(data), maxReply)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return err
	}
	_, err = c.conn.Write(append(data, '\n'))
	return err
}

// finish sends the last line.
func (c *Call) finish(err error) error {
	if err != nil {
		return c.send(reply{Error: describe(err)})
	}
	result := c.result
	if result == nil {
		result = json.RawMessage("null")
	}
	err = c.send(reply{Result: result})
	if errors.Is(err, errTooLong) {
		return c.send(reply{Error: describe(err)})
	}
	return err
}

type server struct {
	handlers map[string]Handler
	logger   *slog.Logger
	slots    chan struct{}
	calls    sync.WaitGroup
}

// Serve answers calls until ctx ends, then closes the listener, ends the calls'
// contexts and waits for their handlers; it returns nil then. When it cannot
// accept any more, it returns the error.
func Serve(ctx context.Context, l *net.UnixListener, handlers map[string]Handler, logger *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	s := &server{handlers: handlers, logger: logger, slots: make(chan struct{}, maxCalls)}
	defer s.calls.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.AcceptUnix()
		switch {
		case err == nil:
			s.calls.Go(func() {
				defer func() { <-s.slots }()
				s.serve(ctx, conn)
			})
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ECONNABORTED):
			logger.Warn("cannot accept a command", "error", err)
			<-s.slots
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
		default:
			return fmt.Errorf("accept on control socket: %w", err)
		}
	}
}

// serve answers one connection.
func (s *server) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call := &Call{conn: conn}
	if err := checkPeer(conn); err != nil {
		s.logger.Warn("refused a command", "error", err)
		_ = call.finish(err)
		return
	}
	reader, files, err := readRequest(conn, &call.Request)
	defer closeFiles(files)
	if err != nil {
		_ = call.finish(err)
		return
	}
	call.Files = files
	signals := make(chan os.Signal, 16)
	call.Signals = signals
	var listening sync.WaitGroup
	listening.Go(func() {
		defer cancel()
		s.listen(reader, signals)
	})
	err = s.handle(ctx, call)
	if err := call.finish(err); err != nil && ctx.Err() == nil {
		s.logger.Debug("a client did not take its answer", "op", call.Op, "error", err)
	}
	_ = conn.Close()
	listening.Wait()
}

// handle runs the handler. A handler that panics fails its own call alone.
func (s *server) handle(ctx context.Context, call *Call) (err error) {
	handler, ok := s.handlers[call.Op]
	if !ok {
		return &Error{
			Message: fmt.Sprintf("this lab does not know the operation %q", call.Op),
			Code:    codeUsage,
			Hint:    "the lab was started by another version of sluice: sluice down, then sluice up",
		}
	}
	defer func() {
		if cause := recover(); cause != nil {
			s.logger.Error("a command panicked", "op", call.Op, "panic", cause, "stack", string(debug.Stack()))
			err = fmt.Errorf("%s panicked: %v", call.Op, cause)
		}
	}()
	return handler(ctx, call)
}

// listen reads what the client sends after its request, until it goes away or
// breaks the protocol.
func (s *server) listen(reader *bufio.Reader, signals chan<- os.Signal) {
	for {
		line, err := readLine(reader, maxRequest)
		if err != nil {
			return
		}
		signal, err := parseFollowUp(line)
		if err != nil {
			s.logger.Warn("a client broke the protocol", "error", err)
			return
		}
		select {
		case signals <- signal:
		default:
		}
	}
}

// readRequest reads the request and the files that came with it. The files are
// the caller's to close, on error too.
func readRequest(conn *net.UnixConn, request *Request) (*bufio.Reader, []*os.File, error) {
	if err := conn.SetReadDeadline(time.Now().Add(requestWait)); err != nil {
		return nil, nil, err
	}
	first := make([]byte, 4096)
	control := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, controlled, flags, _, err := conn.ReadMsgUnix(first, control)
	if err != nil {
		return nil, nil, fmt.Errorf("read request: %w", err)
	}
	files, err := receiveFiles(control[:controlled])
	if err != nil {
		return nil, files, err
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return nil, files, fmt.Errorf("read request: more than %d files", maxFiles)
	}
	reader := bufio.NewReader(io.MultiReader(bytes.NewReader(first[:n]), conn))
	line, err := readLine(reader, maxRequest)
	if err != nil {
		return nil, files, fmt.Errorf("read request: %w", err)
	}
	if *request, err = parseRequest(line); err != nil {
		return nil, files, err
	}
	return reader, files, conn.SetReadDeadline(time.Time{})
}
