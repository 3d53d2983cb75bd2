package blog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/crypto/bcrypt"
)

const (
	// MinPassword is the least length of a password that somebody chooses, in characters.
	MinPassword = 12
	// MaxPassword is what bcrypt reads of a password, in bytes; a longer one is refused.
	MaxPassword = 72
)

// Administrator is somebody who may log in.
type Administrator struct {
	Name    string    `bson:"_id"`
	Created time.Time `bson:"created"`
	// Disabled is when the account was disabled; zero is never, or enabled since.
	Disabled time.Time `bson:"disabled,omitempty"`
	// Temporary says that the password was given and must be changed first.
	Temporary bool `bson:"temporary,omitempty"`
}

// account is what is kept of an administrator.
type account struct {
	Administrator `bson:",inline"`
	Hash          string `bson:"hash"`
	// Deleted stays when an account is deleted: no process makes it again from its
	// password file, and a later account of this name is no owner of its sessions.
	Deleted time.Time `bson:"deleted,omitempty"`
	// Generation counts what ends all sessions; a session holds the one that it began in.
	Generation int64 `bson:"generation,omitempty"`
}

func (a account) active() bool { return a.Deleted.IsZero() && a.Disabled.IsZero() }

// account returns what is kept of an administrator, or ErrNotFound. Deleted ones are
// kept, too.
func (s *Store) account(ctx context.Context, name string) (a account, err error) {
	err = s.do(ctx, ReadTimeout, func(ctx context.Context) error {
		a = account{}
		return one(ctx, s.users, bson.D{{Key: "_id", Value: name}}, &a)
	})
	return a, err
}

// Administrators returns all administrators by name.
func (s *Store) Administrators(ctx context.Context) ([]Administrator, error) {
	var administrators []Administrator
	err := s.do(ctx, ReadTimeout, func(ctx context.Context) error {
		administrators = nil
		return all(ctx, s.users, bson.D{notDeleted()}, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}), &administrators)
	})
	return administrators, err
}

// PasswordChange is one try to change one's own password.
type PasswordChange struct {
	Name, Old, New string
	// Address is where it came from: failed tries are counted with failed logins.
	Address string
	Now     time.Time
}

// ChangePassword changes a password and ends every session of its account; it
// returns the secret of a new one. It is ErrLogin when the old password is wrong,
// ErrThrottled, or ErrConflict when the account was changed at the same moment, and a
// *NoLoginError when the password is changed and there is no new session.
func (s *Store) ChangePassword(ctx context.Context, change PasswordChange) (secret string, err error) {
	id := rand.Text()
	err = s.countAttempt(ctx, id, Attempt{Name: change.Name, Address: change.Address, Now: change.Now})
	if err != nil {
		return "", untouched(err)
	}
	known, err := s.account(ctx, change.Name)
	if err != nil {
		return "", untouched(err)
	}
	if !known.active() || !matches(known.Hash, change.Old) {
		return "", ErrLogin
	}
	hash, err := s.hash(change.New)
	if err != nil {
		return "", err
	}
	err = s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		result, err := s.users.UpdateOne(ctx,
			bson.D{{Key: "_id", Value: known.Name}, {Key: "hash", Value: known.Hash}, {Key: "generation", Value: known.generation()}},
			bson.D{
				{Key: "$set", Value: bson.D{{Key: "hash", Value: hash}, {Key: "generation", Value: known.Generation + 1}}},
				{Key: "$unset", Value: bson.D{{Key: "temporary", Value: ""}}},
			})
		if err != nil || result.MatchedCount == 1 {
			return err
		}
		var now account
		err = one(ctx, majority(s.users), bson.D{{Key: "_id", Value: known.Name}}, &now)
		switch {
		case err != nil:
			return err
		case now.Hash == hash:
			return nil // done by an attempt before this one
		case now.Hash == known.Hash && now.Generation == known.Generation:
			return errPending // a primary alone has a change, which may be ours: see committed
		}
		return ErrConflict
	})
	if err != nil {
		return "", err
	}
	secret, err = s.begin(ctx, Session{User: known.Name, Generation: known.Generation + 1, Expires: change.Now.Add(SessionFor)}, id)
	if err != nil {
		return "", &NoLoginError{err}
	}
	return secret, nil
}

// untouched is an error from before an account was written to.
func untouched(err error) error {
	if refusal(err) {
		return err
	}
	return &unsentError{err}
}

// generation is the value that a filter selects this generation with.
func (a account) generation() any {
	if a.Generation == 0 {
		return nil // not there
	}
	return a.Generation
}

// AddAdministrator makes an account with a password that must be changed at the
// first login. It is ErrNameTaken, or ErrNotActive for by, who asks for it.
func (s *Store) AddAdministrator(ctx context.Context, by, name, password string, now time.Time) error {
	hash, err := s.hash(password)
	if err != nil {
		return err
	}
	set := bson.D{
		{Key: "$set", Value: bson.D{{Key: "hash", Value: hash}, {Key: "created", Value: now}, {Key: "temporary", Value: true}}},
		{Key: "$unset", Value: bson.D{{Key: "deleted", Value: ""}, {Key: "disabled", Value: ""}}},
		{Key: "$inc", Value: bson.D{{Key: "generation", Value: int64(1)}}},
	}
	return s.administer(ctx, by, func(ctx context.Context) error {
		known := bson.D{{Key: "_id", Value: name}}
		var there account
		err := one(ctx, s.users, known, &there)
		switch {
		case err == nil && there.Hash == hash:
			return nil // done by an attempt before this one
		case err == nil && there.Deleted.IsZero():
			return ErrNameTaken
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
		_, err = s.users.UpdateOne(ctx, known, set, options.UpdateOne().SetUpsert(true))
		return err
	})
}

// DisableAdministrator ends an administrator's sessions and lets nobody log in as
// him. It is ErrOneself, ErrNotActive for by, or ErrNotFound.
func (s *Store) DisableAdministrator(ctx context.Context, by, name string, now time.Time) error {
	return s.alter(ctx, by, name, bson.D{
		{Key: "$set", Value: bson.D{{Key: "disabled", Value: now}}}, {Key: "$inc", Value: bson.D{{Key: "generation", Value: int64(1)}}},
	})
}

// EnableAdministrator lets a disabled administrator log in again.
func (s *Store) EnableAdministrator(ctx context.Context, by, name string) error {
	return s.alter(ctx, by, name, bson.D{{Key: "$unset", Value: bson.D{{Key: "disabled", Value: ""}}}})
}

// DeleteAdministrator deletes an account for good. What the administrator has written
// stays. It is ErrOneself, or ErrNotActive for by; deleting what is deleted is no error.
func (s *Store) DeleteAdministrator(ctx context.Context, by, name string, now time.Time) error {
	err := s.alter(ctx, by, name, bson.D{
		{Key: "$set", Value: bson.D{{Key: "deleted", Value: now}, {Key: "hash", Value: ""}}},
		{Key: "$inc", Value: bson.D{{Key: "generation", Value: int64(1)}}},
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// alter changes somebody else's account.
func (s *Store) alter(ctx context.Context, by, name string, update bson.D) error {
	if by == name {
		return ErrOneself
	}
	return s.administer(ctx, by, func(ctx context.Context) error {
		result, err := s.users.UpdateOne(ctx, bson.D{{Key: "_id", Value: name}, notDeleted()}, update)
		if err == nil && result.MatchedCount == 0 {
			return ErrNotFound
		}
		return err
	})
}

// administrators is the guard of the accounts: see administer.
const administrators = "administrators"

// administer changes the accounts in a transaction, as somebody who is an active
// administrator at that moment. All of these write to one document: of two
// administrators who disable each other at once, the second finds himself disabled,
// so that one is always left.
func (s *Store) administer(ctx context.Context, by string, change func(ctx context.Context) error) error {
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		return s.transaction(ctx, func(ctx context.Context) error {
			if err := guard(ctx, s.guards, bson.D{{Key: "_id", Value: administrators}}); err != nil {
				return fmt.Errorf("the blog is not prepared: %w", err)
			}
			var who account
			if err := one(ctx, s.users, bson.D{{Key: "_id", Value: by}}, &who); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			} else if err != nil || !who.active() {
				return ErrNotActive
			}
			return change(ctx)
		})
	})
}

// hash makes what is kept of a password.
func (s *Store) hash(password string) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), s.passwordCost())
	if err != nil {
		return "", untouched(fmt.Errorf("hash the password: %w", err))
	}
	return string(hash), nil
}

// matches reports whether a password is the one that hash was made of.
func matches(hash, password string) bool {
	return len(password) <= MaxPassword && bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
}
