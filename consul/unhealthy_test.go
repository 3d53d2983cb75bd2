package consul

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestANullAmongUnhealthyInstancesIsPassedOver(t *testing.T) {
	instance := func(id, checks string) string {
		return `{"Node":{"Node":"n","Address":"10.0.0.1"},"Service":{"ID":"` + id + `","Port":1},"Checks":` + checks + `}`
	}
	const sick = `[null,{"Name":"sick","Status":"critical"}]`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Consul-Index", "5")
		id := "b"
		if strings.Contains(r.URL.Path, "connect") {
			id = "a"
		}
		_, _ = w.Write([]byte("[null," + instance(id, sick) + "," + instance("well", "null") + "]"))
	}))
	defer server.Close()
	list, err := openAt(t, server.URL, "").Unhealthy(within(t, 5*time.Second), "web", true)
	if err != nil || len(list) != 2 || list[0].ServiceID != "a" || list[1].ServiceID != "b" || list[0].Check != "sick" {
		t.Errorf("%+v, %v; want a and b, which are sick", list, err)
	}
}
