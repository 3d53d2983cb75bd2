package consul

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/connect"
	"github.com/hashicorp/go-hclog"
)

// sdkService is one connect.Service and the way to read its material.
type sdkService struct {
	service *connect.Service
	config  func(*tls.ClientHelloInfo) (*tls.Config, error)
}

// newSDKService starts a connect.Service. The caller closes it.
func (c *Client) newSDKService(service string) (*sdkService, error) {
	s, err := connect.NewServiceWithConfig(service, connect.Config{
		Client: c.sdk,
		Logger: hclog.New(&hclog.LoggerOptions{
			Name: "connect", Level: hclog.Warn, DisableTime: true,
			Output: slogLines{logger: c.log, service: service},
		}),
		// nil would mean "h2", for services that speak anything.
		ServerNextProtos: []string{},
	})
	if err != nil {
		return nil, fmt.Errorf("start the Connect SDK: %w", err)
	}
	return &sdkService{service: s, config: s.ServerTLSConfig().GetConfigForClient}, nil
}

func (s *sdkService) close() {
	// Close of connect.Service only stops its watches and cannot fail.
	_ = s.service.Close()
}

// material returns the leaf with its key, and the roots, that the SDK serves now.
func (s *sdkService) material() (*tls.Certificate, *x509.CertPool, error) {
	config, err := s.config(nil)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := config.GetClientCertificate(nil)
	if err != nil {
		return nil, nil, err
	}
	if leaf.Leaf == nil || config.RootCAs == nil {
		return nil, nil, errors.New("the Connect SDK has no leaf or no roots yet")
	}
	return leaf, config.RootCAs, nil
}

// serves reports whether the SDK serves exactly this leaf and these roots.
func (s *sdkService) serves(leaf leafFacts, roots rootFacts) bool {
	certificate, pool, err := s.material()
	return err == nil && leaf.equal(leafFacts{certificate: certificate.Leaf}) && roots.pool.Equal(pool)
}

// rootsPath is the agent's endpoint for the trusted roots.
const rootsPath = "/v1/agent/connect/ca/roots"

// vetted keeps from the SDK an answer about the roots that must not be believed: it
// would trust nobody from then on, and a null among them would end the process.
type vetted struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (v vetted) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := v.next.RoundTrip(request)
	if err != nil || request.URL.Path != rootsPath || response.StatusCode != http.StatusOK {
		return response, err
	}
	defer response.Body.Close()
	if index := response.Header.Get("X-Consul-Index"); index == "" || index == "0" {
		return nil, fmt.Errorf("read roots: %w", errNoIndex)
	}
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read roots: %w", err)
	}
	var list api.CARootList
	if err := json.Unmarshal(content, &list); err != nil {
		return nil, fmt.Errorf("read roots: %w", err)
	}
	if _, err := readRoots(&list); err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(content))
	return response, nil
}

// slogLines passes the SDK's log lines on. They name endpoints, errors and
// identities; the SDK puts no key and no token into its log.
type slogLines struct {
	logger  *slog.Logger
	service string
}

func (w slogLines) Write(line []byte) (int, error) {
	w.logger.Log(context.Background(), slog.LevelDebug, "Connect SDK",
		"service", w.service, "line", string(bytes.TrimSpace(line)))
	return len(line), nil
}
