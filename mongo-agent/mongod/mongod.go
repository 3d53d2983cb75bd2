// Package mongod is the way to one mongod process: anonymous for what anybody
// may ask, and as the set's own internal user for what only a member may do.
//
// Every client is a direct connection to one address. What a command asks for
// is the caller's; this package holds the key, the connection options and the
// meaning of errors.
package mongod

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Codes of command errors that callers tell apart
// (mongo, src/mongo/base/error_codes.yml).
const (
	CodeUnauthorized         = 13
	CodeAuthenticationFailed = 18
	CodeAlreadyInitialized   = 23
	CodeUserNotFound         = 11
	CodeDuplicateUser        = 51003
	CodeDuplicateRole        = 51002
	CodeNotYetInitialized    = 94
	CodeShutdownInProgress   = 91
	CodeInterruptedAtExit    = 11600
)

// closeTimeout bounds the goodbye of a client: a frozen mongod does not answer
// it, and nobody may wait for that.
const closeTimeout = 50 * time.Millisecond

// Secret is a text that shows itself to nobody by accident.
type Secret struct{ text string }

// String hides the text.
func (Secret) String() string { return "(secret)" }

// GoString hides the text.
func (Secret) GoString() string { return "(secret)" }

// Reveal returns the text.
func (s Secret) Reveal() string { return s.text }

// NewSecret wraps a text.
func NewSecret(text string) Secret { return Secret{text} }

// ReadKey reads a key file as mongod does: one key, white space is ignored.
func ReadKey(path string) (Secret, error) {
	text, err := readPrivate(path)
	if err != nil {
		return Secret{}, fmt.Errorf("read key file: %w", err)
	}
	key := strings.Join(strings.Fields(text), "")
	if len(key) < 6 || len(key) > 1024 {
		return Secret{}, fmt.Errorf("read key file %s: %d characters, mongod takes 6 to 1024", path, len(key))
	}
	return Secret{key}, nil
}

// ReadPassword reads a password: the file's content without the line break at
// its end.
func ReadPassword(path string) (Secret, error) {
	text, err := readPrivate(path)
	if err != nil {
		return Secret{}, fmt.Errorf("read password file: %w", err)
	}
	password := strings.TrimRight(text, "\r\n")
	if password == "" {
		return Secret{}, fmt.Errorf("read password file %s: it is empty", path)
	}
	return Secret{password}, nil
}

func readPrivate(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s is open to others (mode %04o); run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	text, err := os.ReadFile(path)
	return string(text), err
}

// Anonymous returns a client that does not authenticate. Close it with Close.
func Anonymous(address string) (*mongo.Client, error) { return connect(address, nil, nil) }

// AnonymousVia is Anonymous with a dialer of the caller's; nil is the driver's.
func AnonymousVia(dialer options.ContextDialer, address string) (*mongo.Client, error) {
	return connect(address, nil, dialer)
}

// System returns a client that authenticates as the set's internal user, which
// may do everything, with the content of the key file.
func System(address string, key Secret) (*mongo.Client, error) {
	return connect(address, &options.Credential{
		AuthMechanism: "SCRAM-SHA-256", AuthSource: "local", Username: "__system", Password: key.text,
	}, nil)
}

// User returns a client that authenticates as a user of database.
func User(address, database, name string, password Secret) (*mongo.Client, error) {
	return connect(address, &options.Credential{
		AuthMechanism: "SCRAM-SHA-256", AuthSource: database, Username: name, Password: password.text,
	}, nil)
}

func connect(address string, credential *options.Credential, dialer options.ContextDialer) (*mongo.Client, error) {
	opts := options.Client().
		SetAppName("mongo-agent").
		SetHosts([]string{address}).
		SetDirect(true).
		SetMaxPoolSize(2).
		SetRetryWrites(false).
		SetRetryReads(false).
		SetServerSelectionTimeout(2 * time.Second).
		SetConnectTimeout(2 * time.Second).
		SetServerMonitoringMode(options.ServerMonitoringModePoll)
	if credential != nil {
		opts.SetAuth(*credential)
	}
	if dialer != nil {
		opts.SetDialer(dialer)
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		return nil, fmt.Errorf("make a client for mongod at %s: %w", address, err)
	}
	return client, nil
}

// Close ends a client without waiting for a mongod that does not answer.
func Close(client *mongo.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = client.Disconnect(ctx)
}

// Admin runs a command on the database admin and decodes its answer into reply,
// unless that is nil.
func Admin(ctx context.Context, client *mongo.Client, command bson.D, reply any) error {
	result := client.Database("admin").RunCommand(ctx, command)
	if reply == nil {
		return result.Err()
	}
	return result.Decode(reply)
}

// HasCode reports whether err is the answer of mongod with one of the codes.
func HasCode(err error, codes ...int) bool {
	var answer mongo.ServerError
	if !errors.As(err, &answer) {
		return false
	}
	for _, code := range codes {
		if answer.HasErrorCode(code) {
			return true
		}
	}
	return false
}

// IsAnswer reports whether err is what mongod has answered, and not a failure to
// reach it.
func IsAnswer(err error) bool {
	var answer mongo.CommandError
	return errors.As(err, &answer) && answer.Code != 0
}

// Reachable dials address and closes the connection: nil means that somebody
// listens there.
func Reachable(ctx context.Context, address string) error {
	return ReachableVia(ctx, new(net.Dialer), address)
}

// ReachableVia is Reachable with a dialer of the caller's.
func ReachableVia(ctx context.Context, dialer options.ContextDialer, address string) error {
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// ErrUnguarded means that mongod would let in whoever comes from loopback, and
// behind a relay everybody does.
var ErrUnguarded = errors.New("mongod lets in unauthenticated clients from loopback, and through a relay everybody comes from there; " +
	"start it with --keyFile and --setParameter enableLocalhostAuthBypass=0")

// codeUnauthorized is mongod's answer to a command that the client may not run.
const codeUnauthorized = 13

// Guarded returns nil if mongod demands authentication of everybody, also of
// clients from loopback, and ErrUnguarded if it does not. The client must be a
// System one, stranger an Anonymous one: a parameter says what mongod should do,
// a refused command shows that it does.
func Guarded(ctx context.Context, client, stranger *mongo.Client) error {
	var reply struct {
		Bypass *bool `bson:"enableLocalhostAuthBypass"`
	}
	err := Admin(ctx, client, bson.D{{Key: "getParameter", Value: 1}, {Key: "enableLocalhostAuthBypass", Value: 1}}, &reply)
	if err != nil {
		return fmt.Errorf("ask mongod for its localhost exception: %w", err)
	}
	if reply.Bypass == nil || *reply.Bypass {
		return ErrUnguarded
	}
	err = Admin(ctx, stranger, bson.D{{Key: "getCmdLineOpts", Value: 1}}, nil)
	switch {
	case err == nil:
		return ErrUnguarded
	case HasCode(err, codeUnauthorized):
		return nil
	default:
		return fmt.Errorf("ask mongod for something forbidden: %w", err)
	}
}
