package fakemongod

import (
	"context"
	"errors"

	"github.com/xdg-go/scram"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// systemUser is the set's internal user.
const systemUser = "__system"

// login knows who may log in.
type login struct{ server *scram.Server }

// newLogin lets the internal user in with a key; an empty one lets nobody in.
func newLogin(key string) (*login, error) {
	lookup := func(string) (scram.StoredCredentials, error) {
		return scram.StoredCredentials{}, errors.New("no such user")
	}
	if key != "" {
		client, err := scram.SHA256.NewClient(systemUser, key, "")
		if err != nil {
			return nil, err
		}
		// Four thousand rounds is the least that drivers take.
		stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "sixteen bytes ok", Iters: 4096})
		if err != nil {
			return nil, err
		}
		lookup = func(name string) (scram.StoredCredentials, error) {
			if name != systemUser {
				return scram.StoredCredentials{}, errors.New("no such user")
			}
			return stored, nil
		}
	}
	server, err := scram.SHA256.NewServer(lookup)
	return &login{server: server}, err
}

// conversation is the login of one connection.
type conversation struct {
	steps *scram.ServerConversation
	done  bool
}

type saslMessage struct {
	Mechanism string      `bson:"mechanism"`
	Payload   bson.Binary `bson:"payload"`
}

func (s *Server) saslStart(_ context.Context, r Request) (bson.D, error) {
	r.conn.auth = conversation{steps: s.login.server.NewConversation()}
	var m saslMessage
	if err := bson.Unmarshal(r.Body, &m); err != nil || m.Mechanism != "SCRAM-SHA-256" {
		return nil, authenticationFailed()
	}
	return r.conn.auth.step(m)
}

func (s *Server) saslContinue(_ context.Context, r Request) (bson.D, error) {
	var m saslMessage
	if err := bson.Unmarshal(r.Body, &m); err != nil || r.conn.auth.steps == nil {
		return nil, authenticationFailed()
	}
	return r.conn.auth.step(m)
}

func (c *conversation) step(m saslMessage) (bson.D, error) {
	response, err := c.steps.Step(string(m.Payload.Data))
	if err != nil {
		*c = conversation{}
		return nil, authenticationFailed()
	}
	c.done = c.steps.Done() && c.steps.Valid()
	return bson.D{
		{Key: "conversationId", Value: int32(1)},
		{Key: "done", Value: c.done},
		{Key: "payload", Value: bson.Binary{Data: []byte(response)}},
		{Key: "ok", Value: 1.0},
	}, nil
}

func authenticationFailed() error {
	return refuse(AuthenticationFailed, "AuthenticationFailed", "Authentication failed.")
}
