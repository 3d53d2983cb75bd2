package fakemongod

import (
	"errors"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Codes of mongod's errors (mongo, src/mongo/base/error_codes.yml).
const (
	InternalError                   int32 = 1
	Unauthorized                    int32 = 13
	AuthenticationFailed            int32 = 18
	IllegalOperation                int32 = 20
	AlreadyInitialized              int32 = 23
	CommandNotFound                 int32 = 59
	WriteConcernFailed              int32 = 64
	InvalidOptions                  int32 = 72
	NodeNotFound                    int32 = 74
	ShutdownInProgress              int32 = 91
	NotYetInitialized               int32 = 94
	NotSecondary                    int32 = 95
	CommandFailed                   int32 = 125
	ExceededTimeLimit               int32 = 262
	NotWritablePrimary              int32 = 10107
	DuplicateKey                    int32 = 11000
	InterruptedAtShutdown           int32 = 11600
	InterruptedDueToReplStateChange int32 = 11602
)

// Error is an answer of mongod that is an error.
type Error struct {
	Code    int32
	Name    string
	Message string
	// Version is the topologyVersion that the answer carries; nil is the current
	// one for errors that say something about the role, else none.
	Version *Version
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

func refuse(code int32, name, message string) *Error {
	return &Error{Code: code, Name: name, Message: message}
}

// NotPrimary is the answer to a write on a member that is not the primary.
func NotPrimary() *Error { return refuse(NotWritablePrimary, "NotWritablePrimary", "not primary") }

// ShuttingDown is the answer of a mongod in its quiesce period.
func ShuttingDown() *Error {
	return refuse(ShutdownInProgress, "ShutdownInProgress", "The server is in quiesce mode and will shut down")
}

// failure returns the document for an error.
func (s *Server) failure(err error) bson.D {
	var e *Error
	if !errors.As(err, &e) {
		e = refuse(InternalError, "InternalError", err.Error())
	}
	var answer bson.D
	aboutRole := []int32{ShutdownInProgress, NotWritablePrimary, InterruptedDueToReplStateChange}
	switch {
	case e.Version != nil:
		answer = append(answer, bson.E{Key: "topologyVersion", Value: *e.Version})
	case slices.Contains(aboutRole, e.Code):
		answer = append(answer, bson.E{Key: "topologyVersion", Value: s.Version()})
	}
	return append(answer,
		bson.E{Key: "ok", Value: 0.0},
		bson.E{Key: "errmsg", Value: e.Message},
		bson.E{Key: "code", Value: e.Code},
		bson.E{Key: "codeName", Value: e.Name},
	)
}
