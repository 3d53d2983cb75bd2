package override_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/gateway/override"
	"sluice/gateway/route"
	"sluice/mesh"
)

// Rules of so many commands over 10,000 routes; each command may mean any route.
func BenchmarkCommandsOver10000Routes(b *testing.B) {
	services := map[string][]mesh.Instance{}
	for i := range 2000 {
		var tags []string
		for p := range 5 {
			tags = append(tags, fmt.Sprintf("urlprefix-host-%d.example.com/path/%d", i, p))
		}
		name := fmt.Sprint("service-", i)
		services[name] = []mesh.Instance{{ServiceID: name, Node: "n", Address: "10.0.0.1:80", Tags: tags}}
	}
	table := route.New(route.Config{Services: services})
	for _, n := range []int{10, 1000} {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "route weight service-%d host-%d.example.com/path/1 weight 0.5\n", i, i)
		}
		b.Run(fmt.Sprint(n, "-commands"), func(b *testing.B) {
			for b.Loop() {
				table.WithRules(time.Time{}, override.Parse(override.Config{}, override.Source{Text: text.String()}))
			}
		})
	}
}
