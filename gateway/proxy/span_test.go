package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

func TestATryIsTracedWithTheURLThatItsInstanceIsAskedFor(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	instance := serve(world, "web", "web-1", hello, "urlprefix-/strip strip=/strip prepend=/v1", "urlprefix-/web")
	var traced spans
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Tracer: &traced})
	for target, want := range map[string]string{
		"/web":                               "/web",
		"/web?":                              "/web?",
		"/strip/a%2Fb?x=1&token=HIDDEN&y=2":  "/v1/a%2Fb?x=1&token=REDACTED&y=2",
		"/web/a;sig=HIDDEN?AWSAccessKeyId=H": "/web/a;sig=REDACTED?AWSAccessKeyId=REDACTED",
	} {
		if got := l.get(target); got.status != 200 {
			t.Fatalf("%s: %d", target, got.status)
		}
		try := fmt.Sprintf("Address:%s URL:https://%s%s}", instance.Address, instance.Address, want)
		meshtest.Wait(t, "the span of "+target, func() bool { return strings.Contains(traced.String(), try) })
	}
}
