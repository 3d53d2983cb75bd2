package proxy_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"sluice/gateway/balance"
	"sluice/gateway/proxy"
	"sluice/identity"
	"sluice/internal/meshtest"
)

const grpcTag = "urlprefix-/grpc.testing.TestService proto=grpc"

// calls serves the test service of gRPC's own interoperability tests over the mesh.
func calls(world *meshtest.World, node string, server testgrpc.TestServiceServer, tags ...string) {
	listener := world.Listen("calls", world.Policy)
	grpcServer := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(grpcServer, server)
	world.Run("calls", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, grpcServer.Stop)
		defer stop()
		if err := grpcServer.Serve(listener); err != nil && ctx.Err() == nil && !errors.Is(err, grpc.ErrServerStopped) {
			return err
		}
		return nil
	})
	world.Catalog.Add(world.Instance("calls", node, listener.Addr().String(), tags...))
}

// listenHTTP2 serves the gateway over HTTP/2 without TLS, and returns the address.
func listenHTTP2(t *testing.T, l *lab) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: l.Proxy, ReadHeaderTimeout: time.Second, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

func grpcLab(t *testing.T, cfg proxy.Config, server testgrpc.TestServiceServer, tags ...string) (*lab, *grpc.ClientConn) {
	t.Helper()
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "calls"))
	calls(world, "calls-1", server, tags...)
	cfg.Dialer, cfg.Policy = world.Dialer("gateway", nil), world.Policy
	l := with(t, world, cfg)
	conn, err := grpc.NewClient("passthrough:///"+listenHTTP2(t, l), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return l, conn
}

// TestTheInteroperabilitySuiteOfGRPCPassesThroughTheGateway runs gRPC's own tests
// (doc/interop-test-descriptions.md), which end the process when one fails.
func TestTheInteroperabilitySuiteOfGRPCPassesThroughTheGateway(t *testing.T) {
	_, conn := grpcLab(t, proxy.Config{}, interop.NewTestServer(), grpcTag)
	client := testgrpc.NewTestServiceClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for name, run := range map[string]func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption){
		"empty_unary": interop.DoEmptyUnaryCall, "large_unary": interop.DoLargeUnaryCall,
		"client_streaming": interop.DoClientStreaming, "server_streaming": interop.DoServerStreaming,
		"ping_pong": interop.DoPingPong, "empty_stream": interop.DoEmptyStream,
		"timeout_on_sleeping_server": interop.DoTimeoutOnSleepingServer, "cancel_after_begin": interop.DoCancelAfterBegin,
		"cancel_after_first_response": interop.DoCancelAfterFirstResponse, "custom_metadata": interop.DoCustomMetadata,
		"status_code_and_message": interop.DoStatusCodeAndMessage, "special_status_message": interop.DoSpecialStatusMessage,
	} {
		t.Run(name, func(*testing.T) { run(ctx, client) })
	}
	interop.DoUnimplementedMethod(ctx, conn)
}

func TestCallsPassFromTLSToTLSOutsideTheMesh(t *testing.T) {
	world := meshtest.New(t)
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	t.Cleanup(certificate.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&certificate.TLS.Certificates[0])))
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		server.Stop()
		running.Wait()
	})
	outside := world.Instance("calls", "calls-1", listener.Addr().String(), "urlprefix-/grpc.testing.TestService proto=grpcs tlsskipverify=true")
	outside.ID = identity.ID{}
	world.Catalog.Add(outside)
	l := with(t, world, proxy.Config{AllowPlain: true})
	front := httptest.NewUnstartedServer(l.Proxy)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)
	roots := x509.NewCertPool()
	roots.AddCert(front.Certificate())
	conn, err := grpc.NewClient("passthrough:///"+front.Listener.Addr().String(),
		grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, "example.com")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := testgrpc.NewTestServiceClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	interop.DoLargeUnaryCall(ctx, client)
	interop.DoPingPong(ctx, client)
	interop.DoCustomMetadata(ctx, client)
	interop.DoStatusCodeAndMessage(ctx, client)
}

// patient is a server whose streams wait until the client has left.
type patient struct {
	testgrpc.UnimplementedTestServiceServer
	begun chan struct{}
	ended chan error
}

func newPatient() *patient {
	return &patient{begun: make(chan struct{}, 1), ended: make(chan error, 1)}
}

func (p *patient) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	_, err := stream.Recv()
	p.begun <- struct{}{}
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		stream.SetTrailer(metadata.Pairs("said", "goodbye"))
		err = stream.Send(&testgrpc.StreamingOutputCallResponse{})
	}
	p.ended <- err
	return err
}

func TestACallOutlivesEveryLimitThatARequestHas(t *testing.T) {
	const limit = 50 * time.Millisecond
	server := newPatient()
	_, conn := grpcLab(t, proxy.Config{Timeout: limit, BodyIdle: limit, MinBodyRate: 1 << 30}, server, grpcTag)
	stream, err := testgrpc.NewTestServiceClient(conn).FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testgrpc.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	<-server.begun
	select {
	case err := <-server.ended:
		t.Fatalf("the silent call was ended: %v", err)
	case <-time.After(10 * limit):
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) || strings.Join(stream.Trailer().Get("said"), "") != "goodbye" {
		t.Errorf("the end is %v with the trailer %v", err, stream.Trailer())
	}
}

func TestAServerLearnsThatTheClientOfACallHasLeft(t *testing.T) {
	server := newPatient()
	_, conn := grpcLab(t, proxy.Config{}, server, grpcTag)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := testgrpc.NewTestServiceClient(conn).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testgrpc.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	<-server.begun
	cancel()
	select {
	case err := <-server.ended:
		if status.Code(err) != codes.Canceled {
			t.Errorf("the server's stream ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server never learned of it")
	}
}

func TestARefusedCallSaysWhyAsAStatusOfGRPC(t *testing.T) {
	l, conn := grpcLab(t, proxy.Config{ExplainErrors: true}, interop.NewTestServer(), grpcTag)
	client := testgrpc.NewTestServiceClient(conn)
	wants := func(name string, code codes.Code, words string) {
		t.Helper()
		_, err := client.EmptyCall(t.Context(), &testgrpc.Empty{})
		if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), words) {
			t.Errorf("%s: %v, want %v with %q", name, err, code, words)
		}
	}
	wants("allowed", codes.OK, "")
	l.World.Policy.Set(meshtest.Deny("gateway", "calls"))
	wants("denied", codes.PermissionDenied, "denied by intention gateway -> calls")
	l.World.Policy.Set(meshtest.Allow("gateway", "calls"))
	meshtest.Wait(t, "it is allowed again", func() bool {
		_, err := client.EmptyCall(t.Context(), &testgrpc.Empty{})
		return err == nil
	})
	_, err := testgrpc.NewUnimplementedServiceClient(conn).UnimplementedCall(t.Context(), &testgrpc.Empty{})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "No route") {
		t.Errorf("no route: %v", err)
	}
	for _, instance := range l.World.Catalog.Services()["calls"] {
		l.World.Catalog.Remove(instance)
	}
	meshtest.Wait(t, "the instance is gone", func() bool {
		_, err := client.EmptyCall(t.Context(), &testgrpc.Empty{})
		return status.Code(err) == codes.Unavailable
	})
	wants("gone", codes.Unavailable, "No healthy instance of calls")
}

// TestACallThatEndsAtTheClientsDeadlineIsNotUnavailable: clients repeat what is, and the
// instance has done nothing wrong. It ends the call itself, as servers of gRPC do.
func TestACallThatEndsAtTheClientsDeadlineIsNotUnavailable(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "calls"))
	listener, over := world.Listen("calls", world.Policy), make(chan time.Duration, 1)
	server := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		<-time.After(<-over)
		panic(http.ErrAbortHandler)
	})}
	server.Protocols.SetUnencryptedHTTP2(true)
	world.Run("calls", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = server.Close() })
		defer stop()
		_ = server.Serve(listener)
		return nil
	})
	world.Catalog.Add(world.Instance("calls", "calls-1", listener.Addr().String(), "urlprefix-/calls proto=grpc"))
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	address := listenHTTP2(t, l)
	for _, c := range []struct {
		timeout string
		lasts   time.Duration
		code    codes.Code
		outcome balance.Outcome
	}{
		{"20m", 20 * time.Millisecond, codes.DeadlineExceeded, balance.Canceled},
		{"20000u", 20 * time.Millisecond, codes.DeadlineExceeded, balance.Canceled},
		{"1H", 0, codes.Unavailable, balance.OriginFailure},
		{"99999999H", 0, codes.Unavailable, balance.OriginFailure},
		{"", 0, codes.Unavailable, balance.OriginFailure},
		{"1", 0, codes.Unavailable, balance.OriginFailure},
		{"1x", 0, codes.Unavailable, balance.OriginFailure},
		{"-1n", 0, codes.Unavailable, balance.OriginFailure},
	} {
		over <- c.lasts
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/calls", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{"Content-Type": {"application/grpc"}, "Grpc-Timeout": {c.timeout}}
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		var trace proxy.Trace
		meshtest.Wait(t, "the call is accounted for", func() (known bool) {
			trace, known = l.Trace(response.Header.Get("X-Request-Id"))
			return known
		})
		if got := response.Header.Get("Grpc-Status"); got != fmt.Sprint(int(c.code)) || len(trace.Attempts) != 1 || trace.Attempts[0].Outcome != c.outcome.String() {
			t.Errorf("grpc-timeout %q: status %s, want %d; %+v, want %s", c.timeout, got, c.code, trace.Attempts, c.outcome)
		}
	}
}

func TestADenyCutsACallThatIsGoingOn(t *testing.T) {
	server := newPatient()
	l, conn := grpcLab(t, proxy.Config{}, server, grpcTag)
	stream, err := testgrpc.NewTestServiceClient(conn).FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testgrpc.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	<-server.begun
	l.World.Policy.Set(meshtest.Deny("gateway", "calls"))
	if _, err := stream.Recv(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the call goes on: %v", err)
	}
}

func TestABodyThatStopsIsAnsweredOverHTTP2Too(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, BodyIdle: 50 * time.Millisecond})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	body, silent := io.Pipe()
	defer silent.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+listenHTTP2(t, l)+"/web", body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusRequestTimeout {
		t.Errorf("status %d, want %d", response.StatusCode, http.StatusRequestTimeout)
	}
}
