package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// requestTimeout bounds every request that is not a blocking query.
	requestTimeout = 5 * time.Second
	// verdictTimeout bounds an authorize call: a peer is waiting in a handshake.
	verdictTimeout = 2 * time.Second
	dialTimeout    = 2 * time.Second

	// maxAnswer bounds an answer, in bytes: one that does not end must not fill the
	// memory. Consul's longest are of a few MB.
	maxAnswer = 256 << 20
	// maxExcuse bounds what is read, and shown to people, of an answer that is an error:
	// from others than Consul that may be a page.
	maxExcuse = 2 << 10
)

// Config says which agent to use and as whom.
type Config struct {
	// Address is the agent's HTTP API: "host:port", "http://host:port" or
	// "unix:///path". Default 127.0.0.1:8500. The environment is not consulted.
	Address string
	// TokenFile holds the ACL token. It must be readable by its owner alone (0600
	// or 0400) and is read once, at Open. Empty means the anonymous token.
	TokenFile string
	// Datacenter is the agent's datacenter. When set, an identity from another one
	// is refused; it is not sent to Consul.
	Datacenter string
	// Primary is the datacenter that holds the intentions' config entries, for
	// reading and writing them. Empty means the agent's own. Only a federation's
	// secondary needs it: an entry's version there is not the primary's.
	Primary string
	// BreakGlass is the key below which the datacenter's own denials are kept, on top of
	// the intentions: see intentions.Overlay. Empty means that there are none. Where it
	// is set, nobody is let in before they are known.
	BreakGlass string
	// Logger receives what changes. Default: nothing is logged.
	Logger *slog.Logger
	// DialContext reaches the agent in place of net.Dialer, for a caller that is not
	// on the agent's node.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Now tells the time for judging certificates. Default time.Now.
	Now func() time.Time
}

// Client is a connection to one Consul agent, safe for concurrent use. It owns no
// goroutine.
type Client struct {
	cfg   Config
	token string
	base  string
	// long carries blocking queries: it has no overall timeout, each query brings
	// its own deadline. brief carries everything else and never waits behind them. sdk is
	// long for the Connect SDK.
	long, brief, sdk    *api.Client
	longHTTP, briefHTTP *http.Client
	log                 *slog.Logger
	now                 func() time.Time
}

// Open prepares a client. It reads the token file and checks the address, but
// does not contact the agent.
func Open(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg, log: cfg.Logger, now: cfg.Now}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	host, dial, err := parseAddress(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("open Consul client: %w", err)
	}
	if cfg.DialContext != nil {
		dial = cfg.DialContext
	}
	c.base = "http://" + host
	if cfg.TokenFile != "" {
		if c.token, err = readToken(cfg.TokenFile); err != nil {
			return nil, fmt.Errorf("open Consul client: %w", err)
		}
	}
	// An answer that points elsewhere is no answer: Consul's API has none, and the token
	// must not go there.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.longHTTP = &http.Client{Transport: c.transport(dial), CheckRedirect: stay}
	c.briefHTTP = &http.Client{Transport: c.transport(dial), CheckRedirect: stay, Timeout: 2 * requestTimeout}
	if c.long, err = newAPI(host, c.longHTTP); err != nil {
		return nil, fmt.Errorf("open Consul client: %w", err)
	}
	if c.brief, err = newAPI(host, c.briefHTTP); err != nil {
		return nil, fmt.Errorf("open Consul client: %w", err)
	}
	if c.sdk, err = newAPI(host, &http.Client{Transport: vetted{c.longHTTP.Transport}, CheckRedirect: stay}); err != nil {
		return nil, fmt.Errorf("open Consul client: %w", err)
	}
	return c, nil
}

// Close drops idle connections to the agent.
func (c *Client) Close() {
	c.longHTTP.CloseIdleConnections()
	c.briefHTTP.CloseIdleConnections()
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// parseAddress splits the agent's address into the host for URLs and a way to
// reach it.
func parseAddress(address string) (host string, dial dialFunc, err error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		if path == "" {
			return "", nil, errors.New("address unix:// has no path")
		}
		return "consul.sock", func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}, nil
	}
	address = strings.TrimPrefix(address, "http://")
	if address == "" {
		address = "127.0.0.1:8500"
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return "", nil, fmt.Errorf("address %q: %w; want host:port or unix:///path", address, err)
	}
	return address, dialer.DialContext, nil
}

func newAPI(host string, client *http.Client) (*api.Client, error) {
	// The transport sets the real token. One that is set here keeps the package from
	// looking for a token file in the environment.
	return api.NewClient(&api.Config{Address: host, Scheme: "http", HttpClient: client, Token: "set-by-transport"})
}

func (c *Client) transport(dial dialFunc) http.RoundTripper {
	return &tokenTransport{token: c.token, longest: maxAnswer, next: &http.Transport{
		DialContext: dial,
		// The defaults keep two idle connections per host; a process with a dozen
		// watches would open and close one for every answer.
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
		// A watch keeps a connection for itself: half of the defaults is enough for it.
		ReadBufferSize:  2 << 10,
		WriteBufferSize: 1 << 10,
		// The agent is nearly always on the same machine, where to pack an answer and
		// unpack it costs both more than its bytes. Who reaches another one by
		// Config.DialContext gets them unpacked too.
		DisableCompression: true,
	}}
}

// tokenTransport puts this client's token, or none, on every request. Without it
// the api package would fall back to tokens and passwords in the environment,
// which belong to the person at the terminal and not to this process.
type tokenTransport struct {
	token string
	next  *http.Transport
	// longest bounds an answer, in bytes.
	longest int64
	// buffers are for reading answers, of answers.BufferSize each.
	buffers sync.Pool
}

func (t *tokenTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	// Of the environment too, and unknown to Consul's community edition.
	if query := request.URL.Query(); query.Has("ns") || query.Has("partition") {
		query.Del("ns")
		query.Del("partition")
		request.URL.RawQuery = query.Encode()
	}
	request.Header.Del("Authorization")
	request.Header.Del("X-Consul-Token")
	if t.token != "" {
		request.Header.Set("X-Consul-Token", t.token)
	}
	response, err := t.next.RoundTrip(request)
	if err == nil {
		t.bound(response)
		t.passOn(request, response)
	}
	return response, err
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the transport.
func (t *tokenTransport) CloseIdleConnections() { t.next.CloseIdleConnections() }

// query returns options for a read under ctx.
func query(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{}).WithContext(ctx)
}

// write returns options for a write under ctx.
func write(ctx context.Context) *api.WriteOptions {
	return (&api.WriteOptions{}).WithContext(ctx)
}
