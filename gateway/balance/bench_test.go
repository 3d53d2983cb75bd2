package balance_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/balance"
)

// BenchmarkPick is one request from pick to release, alone and from all
// processors at once.
func BenchmarkPick(b *testing.B) {
	for _, strategy := range strategies() {
		for _, n := range []int{3, 30} {
			shares := make([]float64, n)
			for i := range shares {
				shares[i] = 1
			}
			shares[0] = .05 // a canary, so that there are two classes
			_, es := endpoints(n, balance.Ejection{})
			p := balance.NewPicker(balance.Config{Strategy: strategy, Members: members(es, shares...), SlowStart: -1})
			request := func(hash uint64) {
				pick, err := p.Pick(balance.Request{Now: start(), Hash: hash})
				if err != nil {
					b.Error(err)
				}
				pick.Report(start(), balance.Success, time.Millisecond)
				pick.Release()
			}
			b.Run(fmt.Sprintf("%s/%d", strategy, n), func(b *testing.B) {
				b.ReportAllocs()
				hash := uint64(0)
				for b.Loop() {
					hash++
					request(hash)
				}
			})
			b.Run(fmt.Sprintf("%s/%d/parallel", strategy, n), func(b *testing.B) {
				b.ReportAllocs()
				var hash atomic.Uint64
				b.RunParallel(func(pb *testing.PB) {
					h := hash.Add(1) << 32
					for pb.Next() {
						h++
						request(h)
					}
				})
			})
		}
	}
}
