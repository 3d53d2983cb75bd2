package proofs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// load is many requests for one page: each client sends its next one when it has the
// answer to the last, over a connection that it keeps.
type load struct {
	URL      string `json:"url"`
	Clients  int    `json:"clients"`
	Requests int    `json:"requests"` // of each client
	// Address is a listener of the mesh to go to, whatever URL says; "" is plain TCP.
	Address string `json:"address,omitempty"`
}

// loadResult is what came of a load.
type loadResult struct {
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50"`
	P99       time.Duration `json:"p99"`
	Bytes     int64         `json:"bytes"` // of one answer
	// Database and Total are what web says of its own time, in all answers together.
	Database time.Duration `json:"database"`
	Total    time.Duration `json:"total"`
}

// load puts a load on a listener of the mesh, as the service that the probe is.
func (p *probe) load(ctx context.Context) error {
	result, err := p.Load.run(ctx, func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dialRaw(ctx, p.Load.Address, nil) })
	if err != nil {
		return err
	}
	text, err := json.Marshal(result)
	p.say(event{Stream: "load", Result: served, Detail: string(text)})
	return err
}

// run does it: one request of each client first, which is not counted, so that
// connections are there.
func (l load) run(ctx context.Context, dial func(ctx context.Context, network, address string) (net.Conn, error)) (loadResult, error) {
	transport := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: l.Clients, DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	warm := make([]loadResult, l.Clients)
	if err := l.each(ctx, func(ctx context.Context, i int) error { _, err := l.ask(ctx, client, &warm[i]); return err }); err != nil {
		return loadResult{}, err
	}
	took, parts := make([][]time.Duration, l.Clients), make([]loadResult, l.Clients)
	began := time.Now()
	err := l.each(ctx, func(ctx context.Context, i int) error {
		for range l.Requests {
			one, err := l.ask(ctx, client, &parts[i])
			if err != nil {
				return err
			}
			took[i] = append(took[i], one)
		}
		return nil
	})
	lasted := time.Since(began)
	all := slices.Concat(took...)
	if err != nil || len(all) == 0 {
		return loadResult{}, err
	}
	slices.Sort(all)
	sum := loadResult{PerSecond: float64(len(all)) / lasted.Seconds(), P50: all[len(all)/2], P99: all[len(all)*99/100], Bytes: parts[0].Bytes}
	for _, part := range parts {
		sum.Database, sum.Total = sum.Database+part.Database, sum.Total+part.Total
	}
	return sum, nil
}

func (l load) each(ctx context.Context, work func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range l.Clients {
		group.Go(func() error { return work(ctx, i) })
	}
	return group.Wait()
}

// timing is how web says where its time went.
var timing = regexp.MustCompile(`^db;dur=([0-9.]+), total;dur=([0-9.]+)$`)

// ask sends one request and reads the whole answer.
func (l load) ask(ctx context.Context, client *http.Client, sum *loadResult) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Accept", "text/html")
	began := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	sum.Bytes, err = io.Copy(io.Discard, response.Body)
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	said := timing.FindStringSubmatch(response.Header.Get("Server-Timing"))
	if response.StatusCode != http.StatusOK || said == nil {
		return 0, fmt.Errorf("%s: status %d, timing %q", l.URL, response.StatusCode, response.Header.Get("Server-Timing"))
	}
	for i, to := range []*time.Duration{&sum.Database, &sum.Total} {
		value, err := strconv.ParseFloat(said[i+1], 64)
		if err != nil {
			return 0, err
		}
		*to += time.Duration(value * float64(time.Millisecond))
	}
	return took, nil
}
