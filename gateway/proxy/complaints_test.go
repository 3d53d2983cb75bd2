package proxy

import (
	"strconv"
	"testing"
	"time"
)

func TestTheFirstFailureIsToldAtOnceAndThenOneInTenSecondsWithTheNumberLeftOut(t *testing.T) {
	c, now := newComplaints(), time.Unix(0, 0)
	web, api := complaint{"/web", "UF"}, complaint{"/api", "UF"}
	expect := func(which complaint, wantLeft int, want bool) {
		t.Helper()
		if left, ok := c.allow(which, now); left != wantLeft || ok != want {
			t.Errorf("%v at %v: %d, %v; want %d, %v", which, now.Unix(), left, ok, wantLeft, want)
		}
	}
	expect(web, 0, true)
	for range 1000 {
		expect(web, 0, false)
	}
	expect(api, 0, true)
	expect(complaint{"/web", "UT"}, 0, true)
	now = now.Add(complainEvery)
	expect(web, 1000, true)
	expect(web, 0, false)
	expect(api, 0, true)
	if list := c.overdue(now, false); len(list) != 0 || len(c.open) != 2 {
		t.Errorf("overdue: %v, open: %d; want none, and what is silent forgotten", list, len(c.open))
	}
	now = now.Add(complainEvery)
	if list := c.overdue(now, false); len(list) != 1 || list[0] != (withheld{web, 1}) {
		t.Errorf("overdue: %v, want 1 of %v", list, web)
	}
	expect(web, 0, false)
	if list := c.overdue(now, true); len(list) != 1 || list[0] != (withheld{web, 1}) {
		t.Errorf("at the end: %v, want 1 of %v", list, web)
	}
}

func TestWhatFailsIsNotRememberedWithoutABound(t *testing.T) {
	c, now, told := newComplaints(), time.Unix(0, 0), 0
	for i := range 10 * maxComplaints {
		if _, ok := c.allow(complaint{route: strconv.Itoa(i), reason: "UF"}, now); ok {
			told++
		}
	}
	if len(c.open) > maxComplaints+1 || told > maxComplaints+1 {
		t.Errorf("%d are remembered and %d told, want %d", len(c.open), told, maxComplaints+1)
	}
	c.overdue(now.Add(complainEvery), false)
	c.overdue(now.Add(2*complainEvery), false)
	if len(c.open) != 0 {
		t.Errorf("%d are remembered for ever", len(c.open))
	}
}
