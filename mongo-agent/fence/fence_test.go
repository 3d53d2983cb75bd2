package fence_test

import (
	"strings"
	"testing"
	"time"

	"sluice/mongo-agent/fence"
)

func TestOnlyAConfirmedPrimaryOfTheHighestTermIsServed(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	good := fence.Facts{Term: 7, HighestTerm: 7, Knower: "mongo-2", Lease: now.Add(time.Millisecond)}
	cases := map[string]struct {
		change func(*fence.Facts)
		reason string
	}{
		"confirmed":                     {func(*fence.Facts) {}, ""},
		"others are behind":             {func(f *fence.Facts) { f.HighestTerm = 6 }, ""},
		"a later term exists":           {func(f *fence.Facts) { f.HighestTerm = 8 }, "mongo-2 knows of the election term 8"},
		"the lease ends now":            {func(f *fence.Facts) { f.Lease = now }, "by a majority of the agents ended"},
		"the lease has ended":           {func(f *fence.Facts) { f.Lease = now.Add(-time.Second) }, "by a majority of the agents ended"},
		"there has never been a lease":  {func(f *fence.Facts) { f.Lease = time.Time{} }, "no majority"},
		"the role is being handed over": {func(f *fence.Facts) { f.HandingOver = "mongo-3" }, "handing over to mongo-3"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			facts := good
			c.change(&facts)
			got := fence.Reason(now, facts)
			if (c.reason == "") != (got == "") || !strings.Contains(got, c.reason) {
				t.Errorf("reason %q, want %q", got, c.reason)
			}
		})
	}
}
