package mesh_test

import (
	"testing"

	"sluice/internal/meshtest"
	"sluice/mesh"
)

func TestDialsAreCountedByService(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("web", "mongo-primary"))
	dialer := world.Dialer("web", world.Policy)
	world.Relay("mongo-primary", "mongo-1", "127.0.0.1:1")
	conn, err := dialer.Dial(t.Context(), "mongo-primary")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if _, err := dialer.Dial(t.Context(), "billing"); err == nil {
		t.Fatal("allowed")
	}
	gone := world.Relay("mongo-primary", "mongo-2", "127.0.0.1:1")
	gone.Address = "127.0.0.1:1"
	if _, err := dialer.DialInstance(t.Context(), gone); err == nil {
		t.Fatal("nobody is there")
	}
	for service, want := range map[string]mesh.DialCounts{
		"mongo-primary": {Dialled: 1, Failed: 1}, "billing": {Denied: 1}, "nobody": {},
	} {
		if got := dialer.Dials(service); got != want {
			t.Errorf("%s: %+v, want %+v", service, got, want)
		}
	}
	dialer.Forget("mongo-primary")
	if got, other := dialer.Dials("mongo-primary"), dialer.Dials("billing"); got != (mesh.DialCounts{}) || other.Denied != 1 {
		t.Errorf("forgotten: %+v, and another service %+v", got, other)
	}
}
