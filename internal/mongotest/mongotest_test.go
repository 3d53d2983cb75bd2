package mongotest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"sluice/internal/mongotest"
)

func direct(t *testing.T, address string, credential *options.Credential) *mongo.Client {
	t.Helper()
	opts := options.Client().SetHosts([]string{address}).SetDirect(true).SetServerSelectionTimeout(5 * time.Second)
	if credential != nil {
		opts.SetAuth(*credential)
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return client
}

func TestKeyFileContentAuthenticatesAsSystemWithSCRAMSHA256(t *testing.T) {
	set := mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1")}})
	client := direct(t, set.Members[0].Address, &options.Credential{
		AuthMechanism: "SCRAM-SHA-256", AuthSource: "local", Username: "__system", Password: set.Key(t),
	})
	var reply bson.M
	err := client.Database("admin").RunCommand(t.Context(), bson.D{{Key: "getParameter", Value: 1}, {Key: "enableLocalhostAuthBypass", Value: 1}}).Decode(&reply)
	if err != nil {
		t.Fatalf("getParameter as __system: %v", err)
	}
	if reply["enableLocalhostAuthBypass"] != false {
		t.Errorf("enableLocalhostAuthBypass = %v, want false", reply["enableLocalhostAuthBypass"])
	}
}

func TestNobodyIsLetInWithoutTheKey(t *testing.T) {
	set := mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1")}})
	client := direct(t, set.Members[0].Address, nil)
	err := client.Database("admin").RunCommand(t.Context(), bson.D{{Key: "createUser", Value: "eve"}, {Key: "pwd", Value: "x"}, {Key: "roles", Value: bson.A{"root"}}}).Err()
	var refused mongo.CommandError
	if !errors.As(err, &refused) || refused.Code != 13 {
		t.Errorf("createUser without authentication: %v, want Unauthorized (13)", err)
	}
}
