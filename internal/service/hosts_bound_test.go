package service

import "testing"

func TestTheHostThatTheEndpointIsBoundToIsOneOfItsNames(t *testing.T) {
	set := newHosts("Ops.Example.:9998", nil)
	for host, want := range map[string]bool{"ops.example": true, "ops.example:9998": true, "": true, "other.example": false} {
		if got := set.allow(host); got != want {
			t.Errorf("Host %q: %v, want %v", host, got, want)
		}
	}
}
