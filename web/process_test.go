package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"sluice/consul"
	"sluice/internal/consultest"
	"sluice/internal/mongotest"
	"sluice/internal/service"
	"sluice/mesh"
)

// processVariable makes this test's binary web.
const processVariable = "SLUICE_TEST_WEB"

const (
	mongoPassword = "a password for tests"
	pathSecret    = "secret-of-a-path"
)

func TestMain(m *testing.M) {
	if os.Getenv(processVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a web process.
type process struct {
	command *exec.Cmd
	output  bytes.Buffer
	exited  chan struct{}
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{exited: make(chan struct{})}
	p.command = exec.Command(os.Args[0], args...)
	p.command.Env = append(os.Environ(), processVariable+"=1")
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.command.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("web said:\n%s", p.output.String())
		}
		if strings.Contains(p.output.String(), mongoPassword) {
			t.Error("the password is in the log")
		}
	})
	return p
}

func (p *process) wait(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(limit):
		t.Fatalf("no exit within %v", limit)
	}
	return p.command.ProcessState.ExitCode()
}

// runGroup runs actors until the test ends.
func runGroup(t *testing.T, group *service.Group) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- group.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func open(t *testing.T, agent *consultest.Agent, services ...string) *consul.Client {
	t.Helper()
	client, err := consul.Open(consul.Config{Address: agent.Address, TokenFile: agent.ServiceFile(services...), Datacenter: "dc1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// startMongo runs one mongod as a replica set of one with the blog's user, and returns
// a client that may do everything.
func startMongo(t *testing.T) (*mongotest.Member, *mongo.Client) {
	t.Helper()
	set := mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1")}})
	member := set.Members[0]
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + member.Address + "/?directConnection=true").
		SetAuth(options.Credential{AuthSource: "local", Username: "__system", Password: set.Key(t)}).SetTimeout(20 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = client.Disconnect(ctx)
	})
	members := bson.A{bson.D{{Key: "_id", Value: 0}, {Key: "host", Value: member.Address}}}
	config := bson.D{{Key: "_id", Value: set.Name}, {Key: "members", Value: members}}
	if err := client.Database("admin").RunCommand(t.Context(), bson.D{{Key: "replSetInitiate", Value: config}}).Err(); err != nil {
		t.Fatal(err)
	}
	mongotest.Wait(t, 20*time.Second, "the blog's user exists", func(ctx context.Context) error {
		return client.Database("blog").RunCommand(ctx, bson.D{
			{Key: "createUser", Value: "web"}, {Key: "pwd", Value: mongoPassword}, {Key: "roles", Value: bson.A{"readWrite"}},
		}).Err()
	})
	return member, client
}

// startRelay runs a Connect-native service in this process whose connections
// lead to target.
func startRelay(t *testing.T, agent *consultest.Agent, name, port, target string) {
	t.Helper()
	client := open(t, agent, name)
	identity, policy, registrar := client.Identity(name), client.DestinationPolicy(name), client.Registrar()
	listener, err := mesh.Listen(net.JoinHostPort(agent.Host, port), mesh.ListenConfig{
		Credentials: identity, Authorizer: mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: name, Policy: policy}),
		Table: mesh.NewTable(time.Now), DrainTimeout: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	number := listener.Addr().(*net.TCPAddr).Port
	registrar.Set(consul.Registration{ID: name + "-1", Name: name, Address: agent.Host, Port: number, Native: true, Check: consul.Check{TTL: time.Minute}})
	registrar.Pass(name+"-1", "in a test")
	group := &service.Group{}
	group.Add("identity", identity.Run)
	group.Add("policy", policy.Run)
	group.Add("listener", listener.Run)
	group.Add("relay", func(ctx context.Context) error { relay(ctx, listener, target); return nil })
	group.Add("registrar", registrar.Run)
	runGroup(t, group)
}

func relay(ctx context.Context, listener *mesh.Listener, target string) {
	var carried sync.WaitGroup
	defer carried.Wait()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		carried.Go(func() {
			if backend, err := net.DialTimeout("tcp", target, time.Second); err == nil {
				_ = mesh.Splice(ctx, conn, backend)
				return
			}
			_ = conn.Close()
		})
	}
}

// asGateway returns an HTTP client that reaches web as the gateway does.
func asGateway(t *testing.T, agent *consultest.Agent) *http.Client {
	t.Helper()
	client := open(t, agent, "gateway")
	identity, resolver := client.Identity("gateway"), client.Resolver("web")
	dialer := mesh.NewDialer(mesh.DialerConfig{Credentials: identity, Resolver: resolver, Table: mesh.NewTable(time.Now)})
	group := &service.Group{}
	group.Add("identity", identity.Run)
	group.Add("resolver", resolver.Run)
	group.Add("dialer", dialer.Run)
	runGroup(t, group)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dialer.Dial(ctx, "web")
		if err != nil {
			return nil, err
		}
		return conn, nil
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 15 * time.Second}
}

func intend(agent *consultest.Agent, source, destination, action string) {
	rule := map[string]string{"Name": source, "Action": action}
	agent.Call(http.MethodPut, "/v1/config", map[string]any{"Kind": "service-intentions", "Name": destination, "Sources": []any{rule}}, nil)
}

type answer struct {
	status int
	body   string
}

func (a answer) is(status int, texts ...string) error {
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			return fmt.Errorf("%d without %q: %s", a.status, text, a.body)
		}
	}
	if a.status != status {
		return fmt.Errorf("%d: %s", a.status, a.body)
	}
	return nil
}

func do(client *http.Client, request *http.Request, accept string) (answer, error) {
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, string(body)}, err
}

func get(t *testing.T, client *http.Client, target, accept string) (answer, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(client, request, accept)
}

// answers is get as a condition.
func answers(t *testing.T, client *http.Client, target string, status int, texts ...string) func() error {
	return func() error {
		got, err := get(t, client, target, "text/html")
		if err != nil {
			return err
		}
		return got.is(status, texts...)
	}
}

func TestWebProcessAgainstARealConsulAndARealMongod(t *testing.T) {
	agent := consultest.Start(t, consultest.Config{})
	member, _ := startMongo(t)
	intend(agent, "gateway", "web", "allow")
	intend(agent, "web", "mongo-primary", "allow")
	intend(agent, "web", "mongo-secondary", "allow")
	startRelay(t, agent, "mongo-primary", "27018", member.Address)
	startRelay(t, agent, "mongo-secondary", "27019", member.Address)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(mongoPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	collected := collect(t)
	web := startProcess(t, "-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host,
		"-consul", agent.Address, "-token-file", agent.PolicyFile(tokenRules), "-mongo-user", "web", "-mongo-password-file", password)
	plain := &http.Client{Timeout: 5 * time.Second}
	defer plain.CloseIdleConnections()
	ops := "http://" + net.JoinHostPort(agent.Host, "8001")
	consultest.Await(t, 30*time.Second, "web is ready", answers(t, plain, ops+"/readyz", 200))

	gateway := asGateway(t, agent)
	page := "http://mesh/web"
	consultest.Await(t, 10*time.Second, "the gateway reaches web", answers(t, gateway, page, 200, "Connected address", member.Address, "works"))
	addEntry(t, gateway, page)
	var view struct {
		Instance  string `json:"instance"`
		IsPrimary bool   `json:"is_primary"`
	}
	got, err := get(t, gateway, page, "application/json")
	if err != nil || json.Unmarshal([]byte(got.body), &view) != nil || view.Instance != "web-"+agent.Node || !view.IsPrimary {
		t.Errorf("as JSON: %v %+v", err, got)
	}

	for range 5 {
		intend(agent, "web", "mongo-primary", "deny")
		took := consultest.Await(t, 2*time.Second, "the deny bites",
			answers(t, gateway, page, 503, "denied by intention web -> mongo-primary", "sluice intentions allow web mongo-primary"))
		if err := answers(t, plain, ops+"/healthz", 200)(); err != nil {
			t.Errorf("a denied database makes web unhealthy: %v", err)
		}
		if err := answers(t, plain, ops+"/readyz", 503, "denied by intention web -> mongo-primary")(); err != nil {
			t.Errorf("readiness while denied: %v", err)
		}
		intend(agent, "web", "mongo-primary", "allow")
		back := consultest.Await(t, 3*time.Second, "the allow works", answers(t, gateway, page, 200, "An entry"))
		t.Logf("from the write: 503 after %v, 200 after %v", took.Round(time.Millisecond), back.Round(time.Millisecond))
	}

	if err := answers(t, gateway, page+"/a;token="+pathSecret+"%2F"+pathSecret, 404)(); err != nil {
		t.Errorf("a path with a parameter: %v", err)
	}
	metricsTell(t, plain, ops)
	reconfigure(t, agent, gateway, page)

	started := time.Now()
	_ = web.command.Process.Signal(syscall.SIGTERM)
	if code := web.wait(t, 10*time.Second); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	collected.tell(t, mongoPassword, "An entry", "of the test", pathSecret)
	if log := web.output.String(); strings.Contains(log, pathSecret) || !strings.Contains(log, "/web/a;token=***") {
		t.Error("the log has what is secret in a path, or not the rest of it")
	}
}

// metricsTell holds /metrics to what the page of operations says of it.
func metricsTell(t *testing.T, client *http.Client, ops string) {
	t.Helper()
	got, err := get(t, client, ops+"/metrics", "text/plain")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`web_http_request_duration_seconds_count\{app="topology",code="503"\} [1-9]`,
		`web_upstream_dials_total\{destination="mongo-primary",result="ok"\} [1-9]`,
		`web_upstream_dials_total\{destination="mongo-primary",result="denied"\} [1-9]`,
		`web_upstream_dials_total\{destination="mongo-secondary",result="failed"\} \d`,
		`web_upstream_leaf_expiry_timestamp_seconds\{destination="mongo-primary"\} 1\.\d+e\+09`,
		`web_leaf_expiry_timestamp_seconds 1\.\d+e\+09`,
		`web_upstream_live\{destination="mongo-secondary"\} [1-9]`,
		`web_mongo_pool_connections\{destination="mongo-primary"\} [1-9]\n`,
		`web_mongo_pool_in_use\{destination="mongo-primary"\} [0-2]\n`,
		`web_mongo_pool_cleared_total\{destination="mongo-primary"\} [1-9]`,
		`web_mongo_pool_checkout_duration_seconds_count\{destination="mongo-primary"\} [1-9]`,
		`web_mongo_pool_checkout_failures_total\{destination="mongo-primary",reason="timeout"\} \d`,
	} {
		if !regexp.MustCompile(want).MatchString(got.body) {
			t.Errorf("no %s", want)
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "docs", "web.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range regexp.MustCompile(`(?m)^# TYPE (web_\S+) `).FindAllStringSubmatch(got.body, -1) {
		if !strings.Contains(string(page), "| `"+line[1]+"` |") {
			t.Errorf("docs/web.md has no row of %s", line[1])
		}
	}
}

// tokenRules are those of web's token in the lab.
const tokenRules = `
node_prefix "" { policy = "read" }
service "web" { policy = "write" }
service "mongo-primary" { policy = "read" }
service "mongo-secondary" { policy = "read" }
key_prefix "web/" { policy = "read" }
`

// reconfigure changes settings while web runs, and holds them to the time that they
// may take.
func reconfigure(t *testing.T, agent *consultest.Agent, gateway *http.Client, page string) {
	t.Helper()
	client, err := consul.Open(consul.Config{Address: agent.Address, TokenFile: agent.PolicyFile(`key_prefix "web/" { policy = "write" }`), Datacenter: "dc1"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for n := range 5 {
		tagline := fmt.Sprintf("the %d. tagline", n)
		if err := client.KVPut(t.Context(), "web/tagline", []byte(tagline)); err != nil {
			t.Fatal(err)
		}
		took := consultest.Await(t, 5*time.Second, "the tagline is in force", answers(t, gateway, page, 200, tagline))
		t.Logf("from the write to a page that shows it: %v", took.Round(time.Millisecond))
	}
	if err := client.KVPut(t.Context(), "web/maintenance", []byte("true")); err != nil {
		t.Fatal(err)
	}
	consultest.Await(t, 5*time.Second, "maintenance begins", answers(t, gateway, page, 503, "Under maintenance"))
	plain := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, health := range []string{"/healthz", "/readyz"} {
		if err := answers(t, plain, "http://"+net.JoinHostPort(agent.Host, "8001")+health, 200)(); err != nil {
			t.Errorf("%s under maintenance: %v", health, err)
		}
	}
	var passing []any
	if agent.Call(http.MethodGet, "/v1/health/service/web?passing", nil, &passing); len(passing) != 1 {
		t.Errorf("%d instances pass under maintenance, want one", len(passing))
	}
	if err := client.KVPut(t.Context(), "web/maintenance", []byte("false")); err != nil {
		t.Fatal(err)
	}
	consultest.Await(t, 5*time.Second, "maintenance ends", answers(t, gateway, page, 200))
}

func addEntry(t *testing.T, client *http.Client, page string) {
	t.Helper()
	values := url.Values{"title": {"An entry"}, "body": {"of the test"}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, page+"/entries", strings.NewReader(values.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("traceparent", "00-"+gatewayTrace+"-"+gatewaySpan+"-01")
	got, err := do(client, request, "application/json")
	if err != nil {
		t.Fatal(err)
	}
	if err := got.is(201, "An entry"); err != nil {
		t.Fatal(err)
	}
}

func TestWebSaysWhatIsWrongAndExits(t *testing.T) {
	open := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(open, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	place := []string{"-node", "web-1", "-address", "127.0.0.1"}
	tests := []struct {
		name string
		args []string
		code int
		text string
	}{
		{"no password file", place, 2, "-mongo-password-file is missing"},
		{"password that others may read", append([]string{"-mongo-password-file", open}, place...), 1, "chmod 600"},
		{"bad prefix", append([]string{"-mongo-password-file", open, "-urlprefix", "web"}, place...), 2, "does not start with /"},
		{"version", []string{"-version"}, 0, "web "},
		{"help", []string{"-h"}, 0, "-mongo-password-file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := startProcess(t, test.args...)
			if code := p.wait(t, 10*time.Second); code != test.code || !strings.Contains(p.output.String(), test.text) {
				t.Errorf("exit %d, %q; want %d with %q", code, p.output.String(), test.code, test.text)
			}
		})
	}
}
