package lab_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sluice/internal/labtest"
	"sluice/lab"
)

// BenchmarkUp measures a warm `up`, phase by phase, and the memory of the lab
// that it leaves (proportional set size, by kind of process). Run it with
// -benchtime 3x: each round is a lab.
func BenchmarkUp(b *testing.B) {
	l := labtest.New(b, labtest.Variant{Engine: "netns"}, 1900)
	l.Up()
	l.Must("down")
	seconds, megabytes := map[string]float64{}, map[string]float64{}
	total, memory := 0.0, 0.0
	for b.Loop() {
		var started lab.Started
		if err := json.Unmarshal([]byte(l.Up("-o", "json").Stdout), &started); err != nil {
			b.Fatal(err)
		}
		for _, phase := range started.Summary.Phases {
			seconds[phase.Name] += phase.Seconds
		}
		for _, process := range started.Summary.Memory {
			megabytes[process.Name] += process.MB
		}
		total += started.Summary.Seconds
		memory += started.Summary.MemoryMB
		l.Must("down")
	}
	rounds := float64(b.N)
	unit := strings.NewReplacer(" ", "-")
	for name, sum := range seconds {
		b.ReportMetric(sum/rounds, "s:"+unit.Replace(name))
	}
	for name, sum := range megabytes {
		b.ReportMetric(sum/rounds, "MB:"+name)
	}
	b.ReportMetric(total/rounds, "s:total")
	b.ReportMetric(memory/rounds, "MB:total")
	b.ReportMetric(0, "ns/op")
}
