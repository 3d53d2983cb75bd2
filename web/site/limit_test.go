package site

import (
	"fmt"
	"net/http/httptest"
	"testing"
)

func TestVisitorsAreToldApartByAddressAndNetwork(t *testing.T) {
	for forwarded, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "10.0.0.1, 192.0.2.7": "192.0.2.7", "": "unknown", "nonsense": "nonsense",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2::9": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "::ffff:192.0.2.7": "::ffff:192.0.2.7",
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("X-Forwarded-For", forwarded)
		if got := visitorOf(r); got != want {
			t.Errorf("%q: %q, want %q", forwarded, got, want)
		}
	}
	// Whoever has a whole network has one visitor's share.
	s := &Site{visitors: newVisitorLimit()}
	taken := 0
	for i := range 2 * visitorBurst {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("X-Forwarded-For", fmt.Sprintf("2001:db8::%x", i))
		if ok, err := s.visitors.Allow(visitorOf(r)); err == nil && ok {
			taken++
		}
	}
	if taken < visitorBurst || taken > visitorBurst+5 {
		t.Errorf("%d were taken", taken)
	}
}
