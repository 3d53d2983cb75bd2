package balance

import (
	"testing"
	"time"
)

// A request that found the endpoint due for a trial may begin its own only after
// another one has ended: the endpoint is back then, and must not be counted back twice.
func TestATrialThatBeginsAfterTheEndpointIsBackChangesNothing(t *testing.T) {
	for name, success := range map[string]bool{"well": true, "badly": false} {
		t.Run(name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			g := NewGroup(Ejection{Percent: 100})
			e := g.Update(start, []Instance{{Key: "a"}, {Key: "b"}})[0]
			g.eject(e, nanoseconds(start))
			e.trial.Store(e.trials.Add(1))
			g.judge(e, 1, nanoseconds(start.Add(time.Minute)), true)
			e.trial.Store(e.trials.Add(1)) // it had looked before that
			g.judge(e, 2, nanoseconds(start.Add(time.Minute)), success)
			if out, _ := g.Ejected(); out != 0 || e.until.Load() != 0 {
				t.Errorf("%d ejected, until %d; want none", out, e.until.Load())
			}
			if e.trial.Load() != 0 {
				t.Error("the trial is not over")
			}
		})
	}
}
