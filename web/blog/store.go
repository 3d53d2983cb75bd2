// Package blog keeps the entries of the blog in MongoDB, behind a way that an
// intention can close at any moment.
//
// Every operation is bounded in time, ends at once when the way is denied, and
// then says so with a *mesh.DeniedError; it works again with the first call after
// an allow. Operations are safe to repeat: an entry's ID is made by whoever writes
// it.
package blog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"sluice/internal/service"
	"sluice/mesh"
)

const (
	database   = "blog"
	collection = "entries"

	// ReadTimeout and WriteTimeout bound one operation, retries included. A write
	// outlasts what the way holds a connection for (mesh.DefaultHold).
	ReadTimeout  = 5 * time.Second
	WriteTimeout = 15 * time.Second

	// connectTimeout bounds the driver's own look at a server. The way to the
	// primary holds it while there is none: a driver that gives up before looks
	// again only after half a second.
	connectTimeout          = mesh.DefaultHold + time.Second
	connectTimeoutSecondary = 2 * time.Second

	maxAttempts = 24
	firstPause  = 20 * time.Millisecond
	maxPause    = 400 * time.Millisecond
)

// errPending means that an entry with the ID is there, and not yet with a majority
// of the members. It passes: the entry is committed, or rolled back and added again.
var errPending = errors.New("stored, but not yet by a majority of the members")

// Entry is one entry of the blog.
type Entry struct {
	// ID is made by the writer, so that writing twice stores once.
	ID      string    `bson:"_id" json:"id"`
	Title   string    `bson:"title" json:"title"`
	Body    string    `bson:"body" json:"body"`
	Created time.Time `bson:"created" json:"created"`
	// Via names the instance of web that stored it.
	Via string `bson:"via" json:"via"`

	// Blog is the ID of the blog that the entry belongs to.
	Blog string `bson:"blog,omitempty" json:"blog,omitempty"`
	// Slug is the entry's name in addresses, unique within its blog.
	Slug   string `bson:"slug,omitempty" json:"slug,omitempty"`
	Author string `bson:"author,omitempty" json:"author,omitempty"`
	// Editor is who wrote it last; "" in entries that are older than the field.
	Editor string `bson:"editor,omitempty" json:"editor,omitempty"`
	// Updated is when the entry was last written.
	Updated time.Time `bson:"updated,omitempty" json:"updated,omitzero"`
	// Revision counts the writes of the entry, from 1.
	Revision int64 `bson:"revision,omitempty" json:"revision,omitempty"`
	// Edit is made by the writer for each change, so that a change that is sent
	// twice is known again.
	Edit string `bson:"edit,omitempty" json:"-"`
	// Deleted is when it was deleted; it is gone for good UndoFor later.
	Deleted time.Time `bson:"deleted,omitempty" json:"-"`
}

// Hello is what a member of the replica set says of itself.
type Hello struct {
	Set         string   `bson:"setName"`
	Hosts       []string `bson:"hosts"`
	Primary     string   `bson:"primary"`
	Me          string   `bson:"me"`
	IsPrimary   bool     `bson:"isWritablePrimary"`
	IsSecondary bool     `bson:"secondary"`
}

// Config says which database to use.
type Config struct {
	// Service is the name of what is behind Address, for errors.
	Service string
	// Address is the local "host:port" of the way.
	Address string
	// Way tells whether Address leads anywhere. Required.
	Way Way
	// Probe makes one connection over the mesh to Service and closes it; nil
	// leaves a denial unquestioned until the driver dials again.
	Probe func(ctx context.Context) error
	// User and Password authenticate with SCRAM against the blog's database.
	User, Password string
	// PasswordCost is bcrypt's for new passwords; 0 is DefaultPasswordCost.
	PasswordCost int
	// Waited is told how long each operation waited for a connection that it got; nil
	// is nobody. It must not block.
	Waited func(time.Duration)
	// Commands is told of each command to the database; nil is nobody.
	Commands *event.CommandMonitor
	// Secondary reads from a secondary and does not write.
	Secondary bool
}

// Store is the blog's collection. It is safe for concurrent use.
type Store struct {
	cfg                       Config
	client                    *mongo.Client
	entries                   *mongo.Collection
	blogs                     *mongo.Collection
	users, sessions, attempts *mongo.Collection
	guards                    *mongo.Collection
	indexed                   atomic.Bool
	members                   *members
	pool                      *pool
	// leaving ends with EndHolds.
	leaving context.Context
	leave   context.CancelFunc
}

// Visitors is the Blog of the entries that anybody may write. It is no blog: what is
// in it is shown nowhere but among the newest, until somebody puts it into a blog.
const Visitors = "visitors"

// The collections beside that of the entries.
const (
	blogsCollection    = "blogs"
	usersCollection    = "users"
	sessionsCollection = "sessions"
	attemptsCollection = "login_attempts"
	guardsCollection   = "guards"
)

// Open prepares a store; it does not wait for the database. Run must be called:
// it ends what Open starts.
func Open(cfg Config) (*Store, error) {
	preference, connect := readpref.Primary(), connectTimeout
	if cfg.Secondary {
		preference, connect = readpref.SecondaryPreferred(), connectTimeoutSecondary
	}
	// One address with a moving target behind it: topology discovery would lead
	// away from the mesh. Whoever answers is used; a role change cuts us.
	known, connections := &members{}, &pool{waited: cfg.Waited}
	client, err := mongo.Connect(options.Client().
		ApplyURI("mongodb://" + cfg.Address + "/?directConnection=true").
		SetAppName("web").
		SetMonitor(both(known.monitor(), cfg.Commands)).
		SetPoolMonitor(connections.monitor()).
		SetAuth(options.Credential{AuthSource: database, Username: cfg.User, Password: cfg.Password}).
		SetWriteConcern(writeconcern.Majority()).
		SetReadPreference(preference).
		SetRetryWrites(true).
		SetTimeout(WriteTimeout).
		SetConnectTimeout(connect).
		SetServerSelectionTimeout(WriteTimeout).      // each operation has its own bound
		SetHeartbeatInterval(500 * time.Millisecond)) // the least that the driver takes
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", cfg.Service, err)
	}
	db := client.Database(database)
	leaving, leave := context.WithCancel(context.Background())
	return &Store{
		leaving: leaving, leave: leave,
		cfg: cfg, client: client, members: known, pool: connections, entries: db.Collection(collection), blogs: db.Collection(blogsCollection),
		users: db.Collection(usersCollection), sessions: db.Collection(sessionsCollection), attempts: db.Collection(attemptsCollection),
		guards: db.Collection(guardsCollection),
	}, nil
}

// Run keeps the store until ctx ends, then closes its connections.
func (s *Store) Run(ctx context.Context) error {
	<-ctx.Done()
	s.leave()
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 500*time.Millisecond)
	defer cancel()
	// What is still in use after that is cut by the way's own end.
	_ = s.client.Disconnect(bound)
	return nil
}

// Hello asks the member at the other end who it is.
func (s *Store) Hello(ctx context.Context) (Hello, error) {
	var hello Hello
	err := s.do(ctx, ReadTimeout, func(ctx context.Context) error {
		hello = Hello{}
		return s.client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello)
	})
	return hello, err
}

// Newest returns at most n entries, newest first.
func (s *Store) Newest(ctx context.Context, n int64) ([]Entry, error) {
	var entries []Entry
	err := s.do(ctx, ReadTimeout, func(ctx context.Context) error {
		entries = []Entry{}
		order := bson.D{{Key: "created", Value: -1}, {Key: "_id", Value: -1}}
		cursor, err := s.entries.Find(ctx, bson.D{notDeleted()}, options.Find().SetSort(order).SetLimit(n))
		if err != nil {
			return err
		}
		return cursor.All(ctx, &entries)
	})
	return entries, err
}

// Add stores an entry with a majority of the members. fresh is false when the
// very same entry was stored by a majority before. ErrTaken means that its ID
// belongs to another one. OutcomeOf tells of any other error whether it leaves open
// that the entry is stored; adding it again tells, and stores it once.
func (s *Store) Add(ctx context.Context, entry Entry) (fresh bool, err error) {
	err = s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		fresh = true
		_, err := s.entries.InsertOne(ctx, entry)
		if !mongo.IsDuplicateKeyError(err) {
			return err
		}
		fresh = false
		stored, err := s.committed(ctx, entry.ID)
		if err != nil {
			return err
		}
		if stored.Title != entry.Title || stored.Body != entry.Body {
			return ErrTaken
		}
		return nil
	})
	if err == nil && !s.indexed.Load() {
		s.index(ctx)
	}
	return fresh, err
}

// majority is the collection as a majority of the members has it.
func majority(c *mongo.Collection) *mongo.Collection {
	return c.Clone(options.Collection().SetReadConcern(readconcern.Majority()))
}

// committed returns an entry that a majority of the members has. What a primary
// alone has is errPending: a primary that is cut off rolls it back later.
func (s *Store) committed(ctx context.Context, id string) (Entry, error) {
	var stored Entry
	err := majority(s.entries).FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Decode(&stored)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return Entry{}, errPending
	}
	return stored, err
}

// index makes the index that Newest sorts by. Without it Newest is slower and as
// right, so that a failure waits for the next entry.
func (s *Store) index(ctx context.Context) {
	keys := bson.D{{Key: "created", Value: -1}, {Key: "_id", Value: -1}}
	err := s.do(ctx, ReadTimeout, func(ctx context.Context) error {
		_, err := s.entries.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: keys})
		return err
	})
	s.indexed.Store(err == nil)
}

// do runs an operation that is safe to repeat: within timeout, and only while
// the way is not denied.
func (s *Store) do(ctx context.Context, timeout time.Duration, operation func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, sent := tracked(ctx)
	ctx, stop := s.held(ctx, sent)
	defer stop()
	err := s.repeat(ctx, operation)
	if err != nil && errors.Is(context.Cause(ctx), service.ErrStopping) {
		err = fmt.Errorf("%w: %w", service.ErrStopping, err)
	}
	if err != nil && !refusal(err) && !sent.Load() {
		return &unsentError{err}
	}
	return err
}

// repeat runs an operation until it has a result, ctx ends or the way is denied.
func (s *Store) repeat(ctx context.Context, operation func(context.Context) error) error {
	pause, doubt := firstPause, false
	for attempt := 1; ; attempt++ {
		known, err := s.blocked(ctx)
		if denied := denial(err); denied != nil && attempt > 1 {
			return &underWayError{denied}
		}
		if err != nil {
			return err
		}
		watched, stop := s.watch(ctx, known)
		err = operation(watched)
		denied := denial(context.Cause(watched))
		stop()
		switch {
		case err == nil:
			return nil
		case denied != nil && attempt < maxAttempts:
			continue
		case denied != nil:
			return &underWayError{denied}
		case attempt >= maxAttempts && !errors.Is(err, errPending) || !transient(err) || !wait(ctx, pause, s.cfg.Way.Changed()):
			return judged(s.explain(err), doubt)
		}
		doubt = doubt || OutcomeOf(err) == Unknown
		pause = min(2*pause, maxPause)
	}
}

// Error says why an operation failed: what the way said, where it had something
// to say, and what the driver said.
type Error struct {
	Service string
	Way     error // may be nil
	Driver  error
}

// Error returns the more telling of the two reasons.
func (e *Error) Error() string {
	if e.Way != nil {
		return fmt.Sprintf("use %s: %v", e.Service, e.Way)
	}
	return fmt.Sprintf("use %s: %v", e.Service, e.Driver)
}

// Unwrap returns both reasons.
func (e *Error) Unwrap() []error {
	return slices.DeleteFunc([]error{e.Way, e.Driver}, func(err error) bool { return err == nil })
}

func (s *Store) explain(err error) error {
	if refusal(err) {
		return err
	}
	return &Error{Service: s.cfg.Service, Way: s.cfg.Way.Err(), Driver: err}
}

// transient reports whether an operation may succeed when it is repeated: a
// server's answer is final unless it is about a role that moved.
func transient(err error) bool {
	if refusal(err) {
		return false
	}
	var answer mongo.ServerError
	if !errors.As(err, &answer) {
		return true // it did not get as far as an answer
	}
	for _, label := range []string{"RetryableWriteError", "NetworkError", "TransientTransactionError", "UnknownTransactionCommitResult"} {
		if answer.HasErrorLabel(label) {
			return true
		}
	}
	// NotWritablePrimary, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary,
	// PrimarySteppedDown, InterruptedDueToReplStateChange, ShutdownInProgress,
	// InterruptedAtShutdown.
	return slices.ContainsFunc([]int{10107, 13435, 13436, 189, 11602, 91, 11600}, answer.HasErrorCode)
}

// wait waits for d or for news; false means that ctx ends first.
func wait(ctx context.Context, d time.Duration, news <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-news:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
