package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const datacenter = "dc1"

// agent speaks to the HTTP API of the Consul agent that the bench has started. It
// shares no code with what is measured.
type agent struct {
	address string
	client  *http.Client
}

// instance is a service instance as it is registered.
type instance struct {
	ID, Name, Address string
	Port              int
	Tags              []string `json:",omitempty"`
	Connect           *native  `json:",omitempty"`
	Check             *check   `json:",omitempty"`
}

type native struct{ Native bool }

// check is one that is told its state. It begins as Status.
type check struct{ CheckID, TTL, Status string }

// call sends one request; body and answer may be nil.
func (a agent) call(ctx context.Context, method, path string, body, answer any) error {
	var sent io.Reader
	if body != nil {
		content, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(content)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+a.address+path, sent)
	if err != nil {
		return err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %.200s", method, path, response.Status, content)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(content, answer)
}

func (a agent) register(ctx context.Context, i instance) error {
	return a.call(ctx, http.MethodPut, "/v1/agent/service/register", i, nil)
}

func (a agent) deregister(ctx context.Context, id string) error {
	return a.call(ctx, http.MethodPut, "/v1/agent/service/deregister/"+url.PathEscape(id), nil, nil)
}

// report sets the state of a check: pass or fail.
func (a agent) report(ctx context.Context, checkID, state string) error {
	return a.call(ctx, http.MethodPut, "/v1/agent/check/"+state+"/"+url.PathEscape(checkID), nil, nil)
}

// intend allows or denies the gateway to call a service.
func (a agent) intend(ctx context.Context, service, action string) error {
	return a.call(ctx, http.MethodPut, "/v1/config", map[string]any{
		"Kind": "service-intentions", "Name": service,
		"Sources": []any{map[string]string{"Name": gatewayService, "Action": action}},
	}, nil)
}

// working reports whether the agent signs leaves.
func (a agent) working(ctx context.Context) error {
	var leader string
	if err := a.call(ctx, http.MethodGet, "/v1/status/leader", nil, &leader); err != nil {
		return err
	}
	if leader == "" {
		return errors.New("no leader yet")
	}
	return a.call(ctx, http.MethodGet, "/v1/agent/connect/ca/leaf/"+gatewayService, nil, nil)
}

// credentials are files with the identity of the gateway, for proxies that do not
// speak to Consul.
type credentials struct {
	// certificate and key are PEM, pair has both, roots is what to trust.
	certificate, key, pair, roots string
	// upstream is the URI in the upstream's certificate.
	upstream string
}

// write fetches a leaf and the roots into the folder, readable by us alone.
func (a agent) write(ctx context.Context, folder string) (credentials, error) {
	var leaf struct{ CertPEM, PrivateKeyPEM, ServiceURI string }
	if err := a.call(ctx, http.MethodGet, "/v1/agent/connect/ca/leaf/"+gatewayService, nil, &leaf); err != nil {
		return credentials{}, err
	}
	var roots struct{ Roots []struct{ RootCert string } }
	if err := a.call(ctx, http.MethodGet, "/v1/agent/connect/ca/roots", nil, &roots); err != nil {
		return credentials{}, err
	}
	var trusted strings.Builder
	for _, root := range roots.Roots {
		trusted.WriteString(root.RootCert)
	}
	path := func(name string) string { return filepath.Join(folder, name) }
	c := credentials{
		certificate: path("leaf.pem"), key: path("key.pem"), pair: path("pair.pem"), roots: path("roots.pem"),
		upstream: strings.TrimSuffix(leaf.ServiceURI, gatewayService) + upstreamService,
	}
	for name, content := range map[string]string{
		c.certificate: leaf.CertPEM, c.key: leaf.PrivateKeyPEM, c.pair: leaf.CertPEM + leaf.PrivateKeyPEM, c.roots: trusted.String(),
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return credentials{}, err
		}
	}
	return c, nil
}
