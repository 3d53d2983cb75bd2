package consul

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hashicorp/consul/connect"

	"sluice/intentions"
	"sluice/mesh"
)

var errTodo = errors.New("not implemented")

type Config struct {
	Address    string // host:port or unix://path
	TokenFile  string // read once at Open, 0600 demanded
	Datacenter string
	Primary    string // datacenter that holds config entries; "" = the agent's own
	Logger     *slog.Logger
	Now        func() time.Time
}
type Client struct{}

func Open(Config) (*Client, error) { return nil, errTodo }

type Identity struct{ mesh.CredentialSource }

func (c *Client) Identity(service string) *Identity { return nil }
func (i *Identity) Run(ctx context.Context) error   { return errTodo }
func (i *Identity) Ready() error                    { return errTodo }
func (i *Identity) Wait(ctx context.Context) error  { return errTodo }
func (i *Identity) Changed() <-chan struct{}        { return nil }

type Intentions struct{ mesh.PolicySource }

func (c *Client) DestinationPolicy(service string) *Intentions { return nil }
func (c *Client) SourcePolicy(service string) *Intentions      { return nil }
func (i *Intentions) Run(ctx context.Context) error            { return errTodo }

func (c *Client) Verdicts() mesh.Verdicts { return nil }

type Resolver struct{ mesh.Resolver }

func (c *Client) Resolver(services ...string) *Resolver     { return nil }
func (c *Client) ResolverAll(tagPrefix string) *ResolverAll { return nil }
func (r *Resolver) Run(ctx context.Context) error           { return errTodo }
func (r *Resolver) Changed(service string) <-chan struct{}  { return nil }
func (r *Resolver) Connect(service string) connect.Resolver { return nil }

// ResolverAll implements mesh.Resolver too.
type ResolverAll struct{ mesh.Resolver }

func (r *ResolverAll) Run(ctx context.Context) error        { return errTodo }
func (r *ResolverAll) Services() map[string][]mesh.Instance { return nil }
func (r *ResolverAll) Changed() <-chan struct{}             { return nil }

type Check struct {
	HTTP            string        // URL to GET, or
	TTL             time.Duration // a TTL check, kept alive by the Registrar
	Interval        time.Duration
	Timeout         time.Duration
	DeregisterAfter time.Duration
}
type Registration struct {
	ID, Name, Address string
	Port              int
	Tags              []string
	Meta              map[string]string
	Native            bool
	Check             Check
}
type Registrar struct{}

func (c *Client) Registrar() *Registrar             { return nil }
func (r *Registrar) Run(ctx context.Context) error  { return errTodo }
func (r *Registrar) Set(Registration)               {}
func (r *Registrar) Remove(id string)               {}
func (r *Registrar) Pass(id, note string)           {}
func (r *Registrar) Warn(id, note string)           {}
func (r *Registrar) Fail(id, note string)           {}
func (r *Registrar) Wait(ctx context.Context) error { return errTodo } // until the agent holds exactly what is desired

func (c *Client) WithLock(ctx context.Context, key string, fn func(ctx context.Context) error) error {
	return errTodo
}
func (c *Client) KVGet(ctx context.Context, key string) ([]byte, bool, error) {
	return nil, false, errTodo
}
func (c *Client) KVPut(ctx context.Context, key string, value []byte) error { return errTodo }

// KVWatch follows one key.
func (c *Client) KVWatch(key string) *Watch[[]byte] { return nil }

type Watch[T any] struct{}
type State[T any] struct {
	Value     T
	Known     bool
	Index     uint64
	Confirmed time.Time
	Failures  int
	Err       error
}

func (w *Watch[T]) Run(ctx context.Context) error { return errTodo }
func (w *Watch[T]) State() State[T]               { return State[T]{} }
func (w *Watch[T]) Changed() <-chan struct{}      { return nil }

// ErrConflict: the entry changed since it was read.
var ErrConflict = errors.New("changed in Consul since it was read")

func (c *Client) ListIntentions(ctx context.Context) ([]intentions.Entry, error) { return nil, errTodo }
func (c *Client) GetEntry(ctx context.Context, destination string) (intentions.Entry, bool, error) {
	return intentions.Entry{}, false, errTodo
}
func (c *Client) SetIntention(ctx context.Context, rule intentions.Rule) error { return errTodo }
func (c *Client) DeleteIntention(ctx context.Context, source, destination string) error {
	return errTodo
}

// ApplyEntry writes the whole entry if Consul still holds entry.Version (0: does not exist yet), else ErrConflict.
func (c *Client) ApplyEntry(ctx context.Context, entry intentions.Entry) error { return errTodo }
func (c *Client) DeleteEntry(ctx context.Context, destination string, version uint64) error {
	return errTodo
}

// Check asks Consul's servers whether source may connect to destination.
func (c *Client) Check(ctx context.Context, source, destination string) (bool, error) {
	return false, errTodo
}
