package mongowire_test

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"sluice/mesh"
)

// connect opens a client with a full seed list whose connections leave over the
// mesh. The members carry the names that they have in the set; no port of this
// machine is involved. Run of what it returns must be called.
func connect(dialer *mesh.Dialer, set string, members []string, credential options.Credential) (*mongo.Client, *mesh.MemberDialer, error) {
	byMember, err := mesh.NewMemberDialer(mesh.MemberDialerConfig{
		Dialer:  dialer,
		Leading: "mongo-primary", Following: "mongo-secondary",
		Member: func(i mesh.Instance) string { return i.Meta["member"] },
		Epoch: func(i mesh.Instance) int64 {
			term, _ := strconv.ParseInt(i.Meta["term"], 10, 64)
			return term
		},
	})
	if err != nil {
		return nil, nil, err
	}
	client, err := mongo.Connect(options.Client().
		ApplyURI("mongodb://" + strings.Join(members, ",") + "/?replicaSet=" + set).
		SetDialer(byMember).
		SetAuth(credential).
		SetReadPreference(readpref.SecondaryPreferred()).
		SetTimeout(10 * time.Second))
	return client, byMember, err
}

// A program that is a service of the mesh reaches every member of a replica set
// by its name: writes go to the primary, reads to a secondary.
func Example() {
	var dialer *mesh.Dialer // as the service that the program is
	client, byMember, err := connect(dialer, "consuldemo", []string{"127.0.10.1:27017", "127.0.10.2:27017", "127.0.10.3:27017"},
		options.Credential{AuthSource: "blog", Username: "web", Password: "from a file"})
	if err != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- byMember.Run(ctx) }()
	defer func() {
		_ = client.Disconnect(context.Background())
		stop()
		<-done
	}()
	_, _ = client.Database("blog").Collection("entries").CountDocuments(ctx, map[string]any{})
}
