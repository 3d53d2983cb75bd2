package fakemongod

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// execute answers a command as the fake does by itself.
func (s *Server) execute(ctx context.Context, r Request) (bson.D, error) {
	if run := s.open(r.Command); run != nil {
		return run(ctx, r)
	}
	run := s.guarded(r.Command)
	if run == nil {
		return nil, refuse(CommandNotFound, "CommandNotFound", fmt.Sprintf("no such command: '%s'", r.Command))
	}
	if !r.Authenticated && !s.cfg.LocalhostException {
		return nil, refuse(Unauthorized, "Unauthorized", "command "+r.Command+" requires authentication")
	}
	return run(ctx, r)
}

func ok() bson.D { return bson.D{{Key: "ok", Value: 1.0}} }

// open returns what anybody may run.
func (s *Server) open(command string) Handler {
	switch command {
	case "hello", "isMaster", "ismaster":
		return s.hello
	case "saslStart":
		return s.saslStart
	case "saslContinue":
		return s.saslContinue
	case "ping", "endSessions":
		return func(context.Context, Request) (bson.D, error) { return ok(), nil }
	case "buildInfo":
		return func(context.Context, Request) (bson.D, error) {
			return append(bson.D{{Key: "version", Value: "6.0.5"}}, ok()...), nil
		}
	default:
		return nil
	}
}

// guarded returns what only the internal user may run.
func (s *Server) guarded(command string) Handler {
	locked := func(run func(r Request) (bson.D, error)) Handler {
		return func(_ context.Context, r Request) (bson.D, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return run(r)
		}
	}
	initiated := func(run func(r Request) (bson.D, error)) Handler {
		return locked(func(r Request) (bson.D, error) {
			if s.member.Role == Startup {
				return nil, refuse(NotYetInitialized, "NotYetInitialized", "no replset config has been received")
			}
			return run(r)
		})
	}
	switch command {
	case "replSetInitiate":
		return locked(s.initiate)
	case "replSetReconfig":
		return initiated(s.reconfigure)
	case "replSetGetConfig":
		return initiated(s.config)
	case "replSetGetStatus":
		return initiated(s.status)
	case "replSetStepUp":
		return initiated(s.stepUp)
	case "replSetStepDown":
		return s.stepDownCommand
	case "replSetFreeze":
		return initiated(s.freezeElections)
	case "replSetAbortPrimaryCatchUp":
		return initiated(s.abortCatchUp)
	case "replSetSyncFrom":
		return initiated(s.syncFrom)
	case "getParameter":
		return locked(s.parameter)
	case "getCmdLineOpts":
		return locked(func(Request) (bson.D, error) {
			return append(bson.D{{Key: "argv", Value: bson.A{"mongod"}}, {Key: "parsed", Value: bson.D{}}}, ok()...), nil
		})
	case "insert":
		return s.insert
	case "find":
		return locked(s.find)
	default:
		return nil
	}
}

// parameter answers for the parameters that decide who is let in.
func (s *Server) parameter(r Request) (bson.D, error) {
	answer := bson.D{}
	if _, err := r.Body.LookupErr("enableLocalhostAuthBypass"); err == nil {
		answer = append(answer, bson.E{Key: "enableLocalhostAuthBypass", Value: s.cfg.LocalhostException})
	}
	if len(answer) == 0 {
		return nil, refuse(InvalidOptions, "InvalidOptions", "no option found to get")
	}
	return append(answer, ok()...), nil
}
