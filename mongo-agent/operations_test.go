package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"sluice/mongo-agent/role"
)

// asked is one request to an agent's operations.
func asked(t *testing.T, a *running, path, authorization string) (int, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.ListenLoopback(opsPort)+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := json.Unmarshal(body, &document); err != nil {
		t.Fatalf("%s: %s", path, body)
	}
	return response.StatusCode, document
}

func TestOnlyWhoHoldsTheKeyFileMayOperateTheSet(t *testing.T) {
	c, primary := startComplete(t)
	secondary := c.others(primary)[0]
	proof := "Bearer " + operationsProof(c.key)
	refused := map[string]string{"nothing": "", "another proof": "Bearer " + strings.Repeat("0", 64), "no scheme": operationsProof(c.key)}
	for name, authorization := range refused {
		for _, path := range []string{"/handover", "/freeze", "/resync"} {
			if code, _ := asked(t, primary, path, authorization); code != http.StatusUnauthorized {
				t.Errorf("%s with %s: status %d", path, name, code)
			}
		}
	}
	for _, test := range []struct {
		agent *running
		path  string
		want  int
		says  string
	}{
		{secondary, "/handover", http.StatusConflict, "not primary"},
		{primary, "/handover?to=mongo-9", http.StatusConflict, "no other member"},
		{primary, "/freeze", http.StatusConflict, "only a secondary"},
		{secondary, "/freeze?seconds=soon", http.StatusBadRequest, "want 0 to"},
		{secondary, "/freeze?seconds=1", http.StatusOK, ""},
		{secondary, "/freeze?seconds=0", http.StatusOK, ""},
		{primary, "/resync", http.StatusConflict, "is primary"},
		{secondary, "/resync", http.StatusOK, ""},
	} {
		code, document := asked(t, test.agent, test.path, proof)
		problem, _ := document["error"].(string)
		if code != test.want || !strings.Contains(problem, test.says) {
			t.Errorf("%s at %s: status %d, %v", test.path, test.agent.Node, code, document)
		}
	}
	code, document := asked(t, primary, "/handover?to="+secondary.Node, proof)
	if code != http.StatusOK || document["to"] != secondary.Node {
		t.Fatalf("hand-over: status %d, %v", code, document)
	}
	if s, _ := primary.board.Snapshot(); s.State == role.Primary {
		t.Error("the old primary is still primary when the hand-over is over")
	}
	if next := c.await(t, c.agents...); next != secondary {
		t.Errorf("%s is primary, want %s", next.Node, secondary.Node)
	}
}
