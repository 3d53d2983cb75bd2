package relay

import (
	"context"
	"fmt"
	"sync"

	"sluice/mesh"
)

// Locator finds a node's instance of a service. It is safe for concurrent use.
type Locator struct {
	// Service is the name in Consul.
	Service  string
	Resolver mesh.Resolver

	mu    sync.Mutex
	known map[string]mesh.Instance
}

// Instance returns where the node's instance is. One that has left the catalog is
// still looked for where it was: Consul may know less than the instance itself.
func (l *Locator) Instance(ctx context.Context, node string) (mesh.Instance, error) {
	instances, err := l.Resolver.Instances(ctx, l.Service)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = make(map[string]mesh.Instance)
	}
	for _, instance := range instances {
		l.known[instance.Node] = instance
	}
	if instance, ok := l.known[node]; ok {
		return instance, nil
	}
	if err == nil {
		err = mesh.ErrNoInstance
	}
	return mesh.Instance{}, fmt.Errorf("%s on node %s: %w", l.Service, node, err)
}
