// Package account keeps one application user in a replica set: it exists, its
// password is the one in the file, and all that it may do is to read and write one
// database and to ask how the set is.
package account

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"sluice/mongo-agent/mongod"
)

// Config names the user.
type Config struct {
	// Address is the set's writable primary, "host:port".
	Address string
	// Key authenticates the creator.
	Key mongod.Secret
	// Database is where the user lives (its authSource) and what it may read and
	// write.
	Database string
	Name     string
	Password mongod.Secret
}

// Outcome says what Ensure had to do.
type Outcome string

// The outcomes.
const (
	Unchanged Outcome = "unchanged"
	Created   Outcome = "created"
	Updated   Outcome = "updated"
)

type grant struct {
	Role     string `bson:"role"`
	Database string `bson:"db"`
}

// SetReader is the role, in the database admin, that may ask which members the set
// has and which of them are heard. An application that can tell that no majority is
// left says so, instead of a time-out. MongoDB's own clusterMonitor would let it see
// the operations of others, too.
const SetReader = "replicaSetReader"

func (cfg Config) grants() []grant {
	return []grant{{SetReader, "admin"}, {"readWrite", cfg.Database}}
}

// Ensure makes the user what cfg says. What it writes is acknowledged by a
// majority of the set. It changes nothing when nothing differs.
func Ensure(ctx context.Context, cfg Config) (Outcome, error) {
	system, err := mongod.System(cfg.Address, cfg.Key)
	if err != nil {
		return "", err
	}
	defer mongod.Close(system)

	have, exists, err := lookUp(ctx, system, cfg)
	switch {
	case err != nil:
		return "", fmt.Errorf("look up user %q: %w", cfg.Name, err)
	case !exists:
		if err := ensureRole(ctx, system); err != nil {
			return "", err
		}
		err := write(ctx, system, cfg, "createUser")
		if err == nil {
			return Created, nil
		}
		if !mongod.HasCode(err, mongod.CodeDuplicateUser) {
			return "", fmt.Errorf("create user %q: %w", cfg.Name, err)
		}
	case slices.Equal(have, cfg.grants()):
		same, err := passwordHolds(ctx, cfg)
		if err != nil {
			return "", fmt.Errorf("try the password of user %q: %w", cfg.Name, err)
		}
		if same {
			return Unchanged, nil
		}
	}
	if err := ensureRole(ctx, system); err != nil {
		return "", err
	}
	if err := write(ctx, system, cfg, "updateUser"); err != nil {
		return "", fmt.Errorf("update user %q: %w", cfg.Name, err)
	}
	return Updated, nil
}

// Exists reports whether the user is there, whatever its password and its roles
// are. system may do everything; one command is sent over it.
func Exists(ctx context.Context, system *mongo.Client, cfg Config) (bool, error) {
	_, exists, err := lookUp(ctx, system, cfg)
	return exists, err
}

func lookUp(ctx context.Context, system *mongo.Client, cfg Config) ([]grant, bool, error) {
	var reply struct {
		Users []struct {
			Roles []grant `bson:"roles"`
		} `bson:"users"`
	}
	command := bson.D{{Key: "usersInfo", Value: bson.D{{Key: "user", Value: cfg.Name}, {Key: "db", Value: cfg.Database}}}}
	if err := system.Database(cfg.Database).RunCommand(ctx, command).Decode(&reply); err != nil {
		return nil, false, err
	}
	if len(reply.Users) == 0 {
		return nil, false, nil
	}
	roles := reply.Users[0].Roles
	slices.SortFunc(roles, func(a, b grant) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.Role, b.Role))
	})
	return roles, true, nil
}

// ensureRole makes SetReader what it is to be.
func ensureRole(ctx context.Context, system *mongo.Client) error {
	write := func(command string) error {
		return system.Database("admin").RunCommand(ctx, bson.D{
			{Key: command, Value: SetReader},
			{Key: "privileges", Value: bson.A{bson.D{
				{Key: "resource", Value: bson.D{{Key: "cluster", Value: true}}},
				{Key: "actions", Value: bson.A{"replSetGetConfig", "replSetGetStatus"}},
			}}},
			{Key: "roles", Value: bson.A{}},
			{Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}}},
		}).Err()
	}
	err := write("createRole")
	if mongod.HasCode(err, mongod.CodeDuplicateRole) {
		err = write("updateRole")
	}
	if err != nil {
		return fmt.Errorf("make role %q: %w", SetReader, err)
	}
	return nil
}

func write(ctx context.Context, system *mongo.Client, cfg Config, command string) error {
	return system.Database(cfg.Database).RunCommand(ctx, bson.D{
		{Key: command, Value: cfg.Name},
		{Key: "pwd", Value: cfg.Password.Reveal()},
		{Key: "roles", Value: cfg.grants()},
		{Key: "mechanisms", Value: bson.A{"SCRAM-SHA-256"}},
		{Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}}},
	}).Err()
}

func passwordHolds(ctx context.Context, cfg Config) (bool, error) {
	user, err := mongod.User(cfg.Address, cfg.Database, cfg.Name, cfg.Password)
	if err != nil {
		return false, err
	}
	defer mongod.Close(user)
	err = mongod.Admin(ctx, user, bson.D{{Key: "connectionStatus", Value: 1}}, nil)
	if mongod.HasCode(err, mongod.CodeAuthenticationFailed) {
		return false, nil
	}
	return err == nil, err
}
