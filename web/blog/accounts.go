package blog

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/crypto/bcrypt"
)

const (
	// SessionFor is how long a login lasts.
	SessionFor = 12 * time.Hour
	// AttemptsFor is how long a failed login counts.
	AttemptsFor = 15 * time.Minute
	// MaxAttempts from one address, and MaxAttemptsName for one name, may fail
	// within AttemptsFor. The second is higher: strangers must not lock people
	// out too easily.
	MaxAttempts     = 10
	MaxAttemptsName = 50

	// DefaultPasswordCost is bcrypt's: about a quarter of a second.
	DefaultPasswordCost = 12
)

// Session is a login.
type Session struct {
	// Key is the hash of what the cookie holds: whoever reads the database gets
	// no session.
	Key     string    `bson:"_id"`
	User    string    `bson:"user"`
	Expires time.Time `bson:"expires"`
	// Generation is the account's when the session began.
	Generation int64 `bson:"generation,omitempty"`
	// Temporary says that the password must be changed before anything else.
	Temporary bool `bson:"-"`
}

// Attempt is one try to log in.
type Attempt struct {
	Name, Password string
	// Address is where it came from.
	Address string
	Now     time.Time
}

// Login checks an attempt and returns the secret of a new session. It is ErrLogin
// or ErrThrottled, or an error of the database.
func (s *Store) Login(ctx context.Context, attempt Attempt) (secret string, err error) {
	id := rand.Text()
	if err := s.countAttempt(ctx, id, attempt); err != nil {
		return "", err
	}
	known, err := s.account(ctx, attempt.Name)
	if errors.Is(err, ErrNotFound) || err == nil && !known.Deleted.IsZero() {
		// A name that does not exist takes as long as one that does.
		_, _ = bcrypt.GenerateFromPassword([]byte("x"), s.passwordCost())
		return "", ErrLogin
	}
	if err != nil {
		return "", err
	}
	if !matches(known.Hash, attempt.Password) || !known.active() {
		return "", ErrLogin
	}
	return s.begin(ctx, Session{User: attempt.Name, Generation: known.Generation, Expires: attempt.Now.Add(SessionFor)}, id)
}

// begin stores a session, takes back the attempt that led to it, and returns its
// secret.
func (s *Store) begin(ctx context.Context, session Session, attempt string) (secret string, err error) {
	secret = rand.Text() + rand.Text()
	session.Key = sessionKey(secret)
	err = s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		_, err := s.sessions.ReplaceOne(ctx, bson.D{{Key: "_id", Value: session.Key}}, session, options.Replace().SetUpsert(true))
		if err != nil {
			return err
		}
		_, err = s.attempts.DeleteOne(ctx, bson.D{{Key: "_id", Value: attempt}})
		return err
	})
	return secret, err
}

// countAttempt writes the attempt down before anything is checked, so that many at
// once count, too.
func (s *Store) countAttempt(ctx context.Context, id string, attempt Attempt) error {
	since := bson.E{Key: "at", Value: bson.D{{Key: "$gt", Value: attempt.Now.Add(-AttemptsFor)}}}
	document := bson.D{{Key: "_id", Value: id}, {Key: "name", Value: attempt.Name}, {Key: "address", Value: attempt.Address}, {Key: "at", Value: attempt.Now}}
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		_, err := s.attempts.ReplaceOne(ctx, bson.D{{Key: "_id", Value: id}}, document, options.Replace().SetUpsert(true))
		if err != nil {
			return err
		}
		for _, limit := range []struct {
			key, value string
			most       int64
		}{{"address", attempt.Address, MaxAttempts}, {"name", attempt.Name, MaxAttemptsName}} {
			count, err := s.attempts.CountDocuments(ctx, bson.D{{Key: limit.key, Value: limit.value}, since}, options.Count().SetLimit(limit.most+1))
			if err != nil {
				return err
			}
			if count > limit.most {
				return ErrThrottled
			}
		}
		return nil
	})
}

// Session returns the login whose secret this is, or ErrNotFound. Whether it still
// holds is read from the account each time: no login that was under way outlives a
// change of the password, or the account.
func (s *Store) Session(ctx context.Context, secret string, now time.Time) (Session, error) {
	filter := bson.D{{Key: "_id", Value: sessionKey(secret)}, {Key: "expires", Value: bson.D{{Key: "$gt", Value: now}}}}
	var session Session
	err := s.do(ctx, ReadTimeout, func(ctx context.Context) error { return one(ctx, s.sessions, filter, &session) })
	if err != nil {
		return Session{}, err
	}
	known, err := s.account(ctx, session.User)
	if err == nil && (!known.active() || known.Generation != session.Generation) {
		err = ErrNotFound
	}
	if err != nil {
		return Session{}, err
	}
	session.Temporary = known.Temporary
	return session, nil
}

// Logout ends a login.
func (s *Store) Logout(ctx context.Context, secret string) error {
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		_, err := s.sessions.DeleteOne(ctx, bson.D{{Key: "_id", Value: sessionKey(secret)}})
		return err
	})
}

func sessionKey(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// addAdministrator makes the user, unless it exists: its password may have been
// changed since.
func (s *Store) addAdministrator(ctx context.Context, name, password string, now time.Time) error {
	if len(password) > MaxPassword {
		return fmt.Errorf("make administrator %s: the password is longer than %d bytes", name, MaxPassword)
	}
	if _, err := s.account(ctx, name); !errors.Is(err, ErrNotFound) {
		return err
	}
	hash, err := s.hash(password)
	if err != nil {
		return fmt.Errorf("make administrator %s: %w", name, err)
	}
	return s.setOnce(ctx, s.users, name, bson.D{{Key: "hash", Value: hash}, {Key: "created", Value: now}})
}

func (s *Store) passwordCost() int {
	if s.cfg.PasswordCost == 0 {
		return DefaultPasswordCost
	}
	return s.cfg.PasswordCost
}
