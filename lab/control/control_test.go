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
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const (
	argDial  = "__dial"  // PATH: dial and call "whoami"
	argServe = "__serve" // serve an inherited listener until standard input ends
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case argDial:
			playClient(os.Args[2])
			return
		case argServe:
			playServer()
			return
		}
	}
	goleak.VerifyTestMain(m)
}

func playClient(path string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client, err := Dial(ctx, path)
	if err != nil {
		fmt.Println("dial:", err)
		return
	}
	defer client.Close()
	result, err := client.Do(ctx, "whoami", nil, nil, nil)
	fmt.Println("result:", string(result), "error:", err)
}

func playServer() {
	listener, err := ListenerFromFile(os.NewFile(3, "control"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	fmt.Println("up")
	if err := Serve(ctx, listener, testHandlers(), slog.New(slog.DiscardHandler)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

type sum struct {
	Numbers []int `json:"numbers"`
}

func testHandlers() map[string]Handler {
	return map[string]Handler{
		"whoami": func(_ context.Context, call *Call) error { return call.Result(os.Getuid()) },
		"add": func(_ context.Context, call *Call) error {
			var args sum
			if err := call.Decode(&args); err != nil {
				return err
			}
			total := 0
			for _, n := range args.Numbers {
				total += n
				if err := call.Progress(total); err != nil {
					return err
				}
			}
			return call.Result(total)
		},
		"silent": func(context.Context, *Call) error { return nil },
		"fail": func(context.Context, *Call) error {
			return fmt.Errorf("up: %w", &Error{Message: "mongod is missing", Code: 4, Hint: "make binaries"})
		},
		"busy":  func(context.Context, *Call) error { return fmt.Errorf("up: %w", hinted{}) },
		"panic": func(context.Context, *Call) error { panic("oh") },
		"wait": func(ctx context.Context, call *Call) error {
			if err := call.Progress("waiting"); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		},
		"signals": func(ctx context.Context, call *Call) error {
			if err := call.Progress("ready"); err != nil {
				return err
			}
			select {
			case signal := <-call.Signals:
				return call.Result(signal.String())
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		"write": func(_ context.Context, call *Call) error {
			if len(call.Files) != 1 {
				return fmt.Errorf("%d files", len(call.Files))
			}
			_, err := io.WriteString(call.Files[0], "from the server")
			return err
		},
		"huge": func(_ context.Context, call *Call) error { return call.Result(strings.Repeat("x", maxReply)) },
	}
}

type hinted struct{}

func (hinted) Error() string { return "port is busy" }
func (hinted) Hint() string  { return "--port-offset 100" }
func (hinted) ExitCode() int { return 4 }

// folder returns a folder as the lab's state folder is.
func folder(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve serves the test handlers at a socket until the test ends.
func serve(t *testing.T, handlers map[string]Handler) string {
	t.Helper()
	path := filepath.Join(folder(t), "control.sock")
	serveAt(t, path, handlers)
	return path
}

func serveAt(t *testing.T, path string, handlers map[string]Handler) {
	t.Helper()
	listener, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, listener, handlers, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func connect(t *testing.T, path string) *Client {
	t.Helper()
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestACallStreamsEventsAndEndsWithAResult(t *testing.T) {
	path := serve(t, testHandlers())
	var events []string
	result, err := connect(t, path).Do(t.Context(), "add", sum{Numbers: []int{1, 2, 3}}, nil,
		func(event json.RawMessage) { events = append(events, string(event)) })
	if err != nil || string(result) != "6" || strings.Join(events, " ") != "1 3 6" {
		t.Errorf("result = %s, %v, events = %q", result, err, events)
	}
	if result, err = connect(t, path).Do(t.Context(), "silent", nil, nil, nil); err != nil || string(result) != "null" {
		t.Errorf("a call without a result = %s, %v", result, err)
	}
}

func TestAnErrorKeepsItsExitCodeAndHint(t *testing.T) {
	path := serve(t, testHandlers())
	for op, want := range map[string]Error{
		"fail":    {Message: "up: mongod is missing", Code: 4, Hint: "make binaries"},
		"busy":    {Message: "up: port is busy", Code: 4, Hint: "--port-offset 100"},
		"panic":   {Message: "panic panicked: oh", Code: 2},
		"huge":    {Message: "the answer is too long: 16777229 bytes, of at most 16777216", Code: 2},
		"unknown": {Message: `this lab does not know the operation "unknown"`, Code: 2, Hint: "the lab was started by another version of sluice: sluice down, then sluice up"},
	} {
		_, err := connect(t, path).Do(t.Context(), op, nil, nil, nil)
		var got *Error
		if !errors.As(err, &got) || *got != want {
			t.Errorf("%s: %#v, want %#v", op, err, want)
		}
	}
}

func TestArgumentsAreReadStrictly(t *testing.T) {
	path := serve(t, testHandlers())
	for name, args := range map[string]any{
		"an unknown field": map[string]any{"numbers": []int{1}, "extra": true},
		"another type":     map[string]any{"numbers": "one"},
		"no object":        []int{1},
	} {
		_, err := connect(t, path).Do(t.Context(), "add", args, nil, nil)
		var got *Error
		if !errors.As(err, &got) || got.Code != 2 || !strings.Contains(got.Message, "arguments of add") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACallEndsWhenItsClientGoesAway(t *testing.T) {
	ended := make(chan error, 1)
	handlers := map[string]Handler{"wait": func(ctx context.Context, call *Call) error {
		_ = call.Progress("waiting")
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}}
	path := serve(t, handlers)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := connect(t, path).Do(ctx, "wait", nil, nil, func(json.RawMessage) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Do = %v, want canceled", err)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the handler goes on")
	}
}

func TestTheServerEndsItsCallsWhenItEnds(t *testing.T) {
	path := filepath.Join(folder(t), "control.sock")
	listener, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, listener, testHandlers(), slog.New(slog.DiscardHandler)) }()
	_, err = connect(t, path).Do(t.Context(), "wait", nil, nil, func(json.RawMessage) { cancel() })
	if err == nil {
		t.Error("a call that never ends has ended well")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial after the end = %v", err)
	}
}

func TestFilesArePassedAndClosed(t *testing.T) {
	path := serve(t, testHandlers())
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := connect(t, path).Do(t.Context(), "write", nil, []*os.File{writer}, nil); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	if err := reader.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// Reading to the end shows that the server has closed its end too.
	if data, err := io.ReadAll(reader); err != nil || string(data) != "from the server" {
		t.Errorf("the file got %q, %v", data, err)
	}
}

func TestTooManyFilesAreRefused(t *testing.T) {
	path := serve(t, testHandlers())
	files := make([]*os.File, maxFiles+1)
	for i := range files {
		files[i] = os.Stderr
	}
	if _, err := connect(t, path).Do(t.Context(), "write", nil, files, nil); err == nil {
		t.Error("accepted by our own client")
	}
	// A client that is not ours must not get through either.
	conn := raw(t, path)
	descriptors := make([]int, 40)
	for i := range descriptors {
		descriptors[i] = 2
	}
	if _, _, err := conn.WriteMsgUnix([]byte(`{"op":"silent"}`+"\n"), unix.UnixRights(descriptors...), nil); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(conn); !bytes.Contains(answer, []byte("more than 8 files")) {
		t.Errorf("answer = %s", answer)
	}
}

func TestSignalsAreForwarded(t *testing.T) {
	path := serve(t, testHandlers())
	client := connect(t, path)
	result, err := client.Do(t.Context(), "signals", nil, nil, func(json.RawMessage) {
		if err := client.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	})
	if err != nil || string(result) != `"terminated"` {
		t.Errorf("result = %s, %v", result, err)
	}
}

// raw connects without the client.
func raw(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UnixConn)
}

func TestWhatIsNoRequestIsRefused(t *testing.T) {
	path := serve(t, testHandlers())
	for name, tc := range map[string]struct{ line, want string }{
		"not JSON":         {"hello\n", "parse request"},
		"no operation":     {"{}\n", "names no operation"},
		"an unknown field": {`{"op":"silent","x":1}` + "\n", "unknown field"},
		"two values":       {`{"op":"silent"}{"op":"silent"}` + "\n", "more than one value"},
		"a line too long":  {strings.Repeat(" ", maxRequest+1) + "\n", "more than 1048576 bytes"},
		"another protocol": {"GET / HTTP/1.1\r\n\r\n", "parse request"},
	} {
		conn := raw(t, path)
		_, _ = io.WriteString(conn, tc.line)
		if answer, _ := io.ReadAll(conn); !strings.Contains(string(answer), tc.want) {
			t.Errorf("%s: answer = %q, want it to say %q", name, answer, tc.want)
		}
	}
}

func TestASilentClientIsSentAway(t *testing.T) {
	conn := raw(t, serve(t, testHandlers()))
	if answer, _ := io.ReadAll(conn); !strings.Contains(string(answer), "i/o timeout") {
		t.Errorf("answer = %q", answer)
	}
}

func TestAClientThatBreaksTheProtocolLaterEndsItsCall(t *testing.T) {
	conn := raw(t, serve(t, testHandlers()))
	if _, err := io.WriteString(conn, `{"op":"wait"}`+"\n"+`{"signal":9}`+"\n"); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn)
	if !strings.Contains(string(answer), context.Canceled.Error()) {
		t.Errorf("answer = %q", answer)
	}
}

func TestManyCallsAtOnce(t *testing.T) {
	path := serve(t, testHandlers())
	var calling sync.WaitGroup
	for i := range 3 * maxCalls {
		calling.Go(func() {
			client, err := Dial(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			defer client.Close()
			result, err := client.Do(t.Context(), "add", sum{Numbers: []int{i, 1}}, nil, nil)
			if err != nil || string(result) != fmt.Sprint(i+1) {
				t.Errorf("%d + 1 = %s, %v", i, result, err)
			}
		})
	}
	calling.Wait()
}

func TestAListenerIsInheritedByAnotherProcess(t *testing.T) {
	path := filepath.Join(folder(t), "control.sock")
	listener, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", argServe)
	cmd.ExtraFiles = []*os.File{file}
	// A user namespace, as the lab has one: there our own user reads as root.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = file.Close(), listener.Close() // the socket's file must survive this
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "up\n" {
		t.Fatal(line, err)
	}
	if result, err := connect(t, path).Do(t.Context(), "whoami", nil, nil, nil); err != nil || string(result) != "0" {
		t.Errorf("result = %s, %v", result, err)
	}
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial after the end = %v", err)
	}
}

func TestListenerFromFileRefusesWhatIsNoUnixSocket(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	file, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ListenerFromFile(file); err == nil || !strings.Contains(err.Error(), "tcp") {
		t.Errorf("err = %v", err)
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{`{"op":"up","args":{"dc2":true}}`, `{"op":""}`, `{"op":"x"} `, `{"op":"x"}{}`, `[]`, `null`, `{"op":"x","args":null}`, `{"signal":2}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		request, err := parseRequest(line)
		if err != nil {
			if request.Op != "" || request.Args != nil {
				t.Errorf("%q: %+v with error %v", line, request, err)
			}
		} else {
			again, err := json.Marshal(request)
			if err != nil {
				t.Fatalf("%q: cannot be written: %v", line, err)
			}
			second, err := parseRequest(again)
			if err != nil || second.Op != request.Op {
				t.Errorf("%q became %q, which is read as %+v, %v", line, again, second, err)
			}
		}
		if signal, err := parseFollowUp(line); err == nil && (signal == syscall.SIGKILL || signal == syscall.SIGSTOP) {
			t.Errorf("%q forwards %v", line, signal)
		}
	})
}
