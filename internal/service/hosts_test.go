package service_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"sluice/internal/service"
)

func TestTheOperationsEndpointAnswersOnlyUnderNamesOfItsOwn(t *testing.T) {
	url := startOps(t, func(*service.Ops) {}, "Ops.Example")
	for host, want := range map[string]int{
		"127.0.0.1:9998": 200, "127.0.0.1": 200, "[::1]:9998": 200, "[::1]": 200, "192.0.2.7:9998": 200, "localhost": 200,
		"LOCALHOST:9998": 200, "localhost.:9998": 200, "gateway.localhost:9998": 200, "ops.example:1": 200, "OPS.EXAMPLE.": 200,
		"evil.example": 421, "evil.example:9998": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example": 421,
		"notlocalhost": 421, "sub.ops.example": 421, "127.0.0.1.": 200, "[evil.example]:9998": 421,
	} {
		for _, path := range []string{"/metrics", "/healthz", "/nothing"} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Host = host
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			status := want
			if want == 200 && path == "/nothing" {
				status = 404
			}
			if got := response.StatusCode; got != status {
				t.Errorf("Host %s, %s: %d, want %d", host, path, got, status)
			}
			if want == 421 && !strings.Contains(string(body), "-admin-hosts") {
				t.Errorf("Host %s: %q does not say how to allow it", host, body)
			}
		}
	}
}
