package client

import (
	"testing"

	"sluice/consul"
	"sluice/identity"
	"sluice/mesh"
)

func TestAMemberHasADoorForEachRole(t *testing.T) {
	id, err := identity.New("11111111-2222-3333-4444-555555555555.consul", "dc1", secondaryService)
	if err != nil {
		t.Fatal(err)
	}
	registered := mesh.Instance{
		Node: "mongo-1", Address: "198.18.1.21:27019", ID: id, Meta: map[string]string{"member": "127.0.10.1:27017", "term": "7"},
	}
	got, ok := door{primaryService, primaryDoor}.of(registered)
	if !ok || got.Address != "198.18.1.21:27018" || got.ID.Service() != primaryService || got.ID.TrustDomain() != id.TrustDomain() {
		t.Errorf("%+v, %t", got, ok)
	}
	if got.Meta["member"] != "127.0.10.1:27017" || term(got) != 0 || term(registered) != 7 {
		t.Errorf("meta %v", got.Meta)
	}
	if _, ok := (door{primaryService, primaryDoor}).of(mesh.Instance{Address: "nowhere"}); ok {
		t.Error("an instance without an address has a door")
	}
}

func TestMembersAreNotGuessed(t *testing.T) {
	if _, err := OpenMembers(MembersConfig{Consul: consul.Config{Address: "127.0.0.1:1"}, ReplicaSet: "s"}); err == nil {
		t.Error("no members are taken")
	}
}
