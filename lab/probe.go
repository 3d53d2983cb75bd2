package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// answerLimit bounds what the lab reads of any answer of a process.
const answerLimit = 4 << 20

// requestTimeout bounds one request to a process of the lab.
const requestTimeout = 10 * time.Second

// httpClient speaks HTTP from inside the node, as a process of the node would. A
// connection is used once: after a fault an old one would tell old news.
func (n *node) httpClient() *http.Client {
	return &http.Client{
		Timeout: requestTimeout,
		Transport: &http.Transport{
			DialContext:       n.machine.DialContext,
			DisableKeepAlives: true,
		},
	}
}

// getOK asks for url and wants a 2xx answer; otherwise the error quotes what the
// answer said.
func getOK(ctx context.Context, client *http.Client, url string, header http.Header) error {
	_, err := get(ctx, client, url, header)
	return err
}

// getJSON asks for url and decodes the answer into value.
func getJSON(ctx context.Context, client *http.Client, url string, value any) error {
	content, err := get(ctx, client, url, http.Header{"Accept": {"application/json"}})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, value); err != nil {
		return fmt.Errorf("read the answer of %s: %w", url, err)
	}
	return nil
}

func get(ctx context.Context, client *http.Client, url string, header http.Header) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header = header
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	if response.StatusCode/100 != 2 {
		return content, fmt.Errorf("%s answered %d: %s", strings.TrimPrefix(url, "http://"), response.StatusCode, firstLine(content))
	}
	return content, nil
}

// firstLine is enough of an answer to recognise it by.
func firstLine(content []byte) string {
	for i, c := range content {
		if c == '\n' || i == 200 {
			return string(content[:i])
		}
	}
	return string(content)
}
