package service_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/internal/service"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func startOps(t *testing.T, prepare func(*service.Ops), names ...string) string {
	t.Helper()
	ops, err := service.ListenOps("127.0.0.1:0", slog.New(slog.DiscardHandler), names...)
	if err != nil {
		t.Fatal(err)
	}
	prepare(ops)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ops.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ops: %v", err)
		}
	})
	return "http://" + ops.Addr().String()
}

func TestHealthIsAboutThisProcessAndReadinessAboutWhatIsBehindIt(t *testing.T) {
	url := startOps(t, func(o *service.Ops) {
		o.Health("credentials", func(context.Context) error { return nil })
		o.Ready("mongo", func(context.Context) error { return errors.New("denied by intention web -> mongo-primary") })
	})
	if code, body := get(t, url+"/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("/healthz = %d %q, want 200 ok", code, body)
	}
	if code, body := get(t, url+"/readyz"); code != 503 || body != "mongo: denied by intention web -> mongo-primary\n" {
		t.Errorf("/readyz = %d %q, want 503 with the reason", code, body)
	}
}

func TestOpsServesMetricsAndWhatItIsGivenAndNoProfiles(t *testing.T) {
	url := startOps(t, func(o *service.Ops) {
		o.Handle("GET /mesh", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	})
	if code, body := get(t, url+"/metrics"); code != 200 || !strings.Contains(body, "go_goroutines") {
		t.Errorf("/metrics = %d", code)
	}
	if code, body := get(t, url+"/mesh"); code != 200 || body != "{}" {
		t.Errorf("/mesh = %d %q", code, body)
	}
	if code, _ := get(t, url+"/debug/pprof/"); code != 404 {
		t.Errorf("/debug/pprof/ = %d, want 404", code)
	}
}

func TestBusyPortIsAnErrorAtOnce(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if _, err := service.ListenOps(busy.Addr().String(), nil); err == nil {
		t.Fatal("no error for a port that is in use")
	}
}

func TestServeCutsWhatOutlivesTheDrain(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-leave
	})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- service.Serve(ctx, server, listener, 10*time.Millisecond) }()
	requested := make(chan error, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get("http://" + listener.Addr().String())
		if err == nil {
			response.Body.Close()
		}
		requested <- err
	}()
	<-entered
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("error = %v, want none", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("still serving 5 s after the stop")
	}
	if err := <-requested; err == nil {
		t.Error("a request that never ends was answered")
	}
	close(leave)
}

func TestARequestIsGivenUpInTimeToSayWhatItKnows(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		fmt.Fprintf(w, "given up: %v", context.Cause(r.Context()))
	})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- service.Serve(ctx, server, listener, 2*time.Second) }()
	go func() {
		<-entered
		cancel()
	}()
	if code, body := get(t, "http://"+listener.Addr().String()); code != 200 || body != "given up: the process is being stopped" {
		t.Errorf("%d %q", code, body)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func parse(args ...string) (service.Common, string, error) {
	var common service.Common
	var stdout bytes.Buffer
	fs := flag.NewFlagSet("web", flag.ContinueOnError)
	common.Bind(fs)
	err := service.ParseFlags(fs, args, &stdout)
	if err == nil {
		err = common.Validate()
	}
	return common, stdout.String(), err
}

func TestCommandLine(t *testing.T) {
	good := []string{"-node", "web-1", "-address", "198.18.1.11"}
	tests := []struct {
		name string
		args []string
		code int
		text string // in the error, or in stdout when there is no failure
	}{
		{"good", good, service.ExitOK, ""},
		{"help", []string{"-h"}, service.ExitOK, "-token-file"},
		{"version", []string{"-version"}, service.ExitOK, "web "},
		{"unknown flag", []string{"-nod", "x"}, service.ExitUsage, "-nod"},
		{"argument", append([]string{"extra"}, good...), service.ExitUsage, `"extra"`},
		{"no node", []string{"-address", "198.18.1.11"}, service.ExitUsage, "-node is missing"},
		{"no address", []string{"-node", "web-1"}, service.ExitUsage, "-address is missing"},
		{"bad address", []string{"-node", "web-1", "-address", "198.18.1.300"}, service.ExitUsage, "-address"},
		{"open loopback", append([]string{"-loopback", "0.0.0.0"}, good...), service.ExitUsage, "not a loopback"},
		{"bad level", append([]string{"-log-level", "loud"}, good...), service.ExitUsage, "-log-level"},
		{"host with port", append([]string{"-admin-hosts", "ops.example,ops:9998"}, good...), service.ExitUsage, `-admin-hosts: "ops:9998"`},
		{"bad format", append([]string{"-log-format", "xml"}, good...), service.ExitUsage, "-log-format"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, stdout, err := parse(test.args...)
			if code := service.ExitCode(err); code != test.code {
				t.Errorf("exit code = %d (%v), want %d", code, err, test.code)
			}
			text := stdout
			if test.code != service.ExitOK {
				text = err.Error()
			}
			if !strings.Contains(text, test.text) {
				t.Errorf("text = %q, want %q in it", text, test.text)
			}
		})
	}
	if service.ExitCode(errors.New("x")) != service.ExitFailure {
		t.Error("a failure does not exit with 1")
	}
}

func TestLoggerNamesNodeAndDatacenterAndKeepsItsLevel(t *testing.T) {
	common, _, err := parse("-node", "web-1", "-address", "127.1.1.11", "-log-level", "warn")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	logger := common.Logger(&out)
	logger.Info("quiet")
	logger.Warn("loud", "service", "web")
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, `"node":"web-1","dc":"dc1","service":"web"`) {
		t.Fatalf("log = %s", got)
	}
	if got := common.Listen(8000); got != "127.1.1.11:8000" {
		t.Errorf("Listen = %q", got)
	}
}
