package site

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/web/blog"
)

const (
	// lookEvery is how often the members are asked who they are. It is not only while
	// somebody looks: whoever comes later wants to know when a role changed.
	lookEvery = 500 * time.Millisecond
	// lookTimeout bounds one such question.
	lookTimeout = time.Second
)

// lookout follows the ways to the database and tells what changes. Run is its only
// writer.
type lookout struct {
	primary, secondary Database
	consul             func() error // why Consul cannot be asked; nil is not known
	now                func() time.Time
	readers            readers // Run's own

	mu        sync.Mutex
	seen      outlook
	changed   chan struct{} // closed when seen changes
	watchers  int
	stopped   chan struct{} // closed when nobody follows any more
	stopSight sync.Once
}

// outlook is what a lookout knows at one moment. It is immutable.
type outlook struct {
	sight
	hello             blog.Hello
	secondaryHello    blog.Hello
	events            []Event // newest first
	number            uint64  // counts the changes
	asked, secondAsks bool    // whether the last questions were answered
}

func newLookout(cfg Config) *lookout {
	return &lookout{
		primary: cfg.Primary, secondary: cfg.Secondary, consul: cfg.Consul, now: cfg.Now,
		changed: make(chan struct{}), stopped: make(chan struct{}),
	}
}

// run follows until ctx ends, and ends every stream then.
func (l *lookout) run(ctx context.Context) error {
	defer l.stopSight.Do(func() { close(l.stopped) })
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		first, second := l.primary.Upstream.Changed(), l.secondary.Upstream.Changed()
		l.look(ctx)
		select {
		case <-first:
		case <-second:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// look takes a sight of the ways at once, and then asks the members.
func (l *lookout) look(ctx context.Context) {
	l.mu.Lock()
	next := l.seen
	l.mu.Unlock()
	next = l.ways(next)
	l.see(next)
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var hello, second blog.Hello
	var quorum blog.Quorum
	var err, secondErr error
	var at, secondAt time.Time // of the answers: one does not wait for the other
	var group errgroup.Group
	leaderless := next.sight.primary.kind == kindNoInstance
	group.Go(func() error {
		hello, err = l.primary.Store.Hello(ctx)
		at = l.now()
		return nil
	})
	group.Go(func() error {
		second, secondErr = l.secondary.Store.Hello(ctx)
		if secondAt = l.now(); secondErr == nil && leaderless {
			quorum, _ = l.secondary.Store.Quorum(ctx) // without it the page says less
		}
		return nil
	})
	_ = group.Wait()
	l.mu.Lock()
	next = l.seen
	l.mu.Unlock()
	if next.asked = err == nil; next.asked {
		next.hello = hello
		if hello.Primary != "" && hello.Primary != next.leader {
			next.leader, next.leaderSince = hello.Primary, at
		}
	}
	if next.secondAsks = secondErr == nil; next.secondAsks {
		l.readers = l.readers.hear(second.Me, next.leader, secondAt)
		next.secondaryHello, next.reader, next.readerSince = second, l.readers.member, l.readers.since
	}
	next.quorum = quorum
	l.see(l.ways(next))
}

// ways fills in the state of the ways as they are now.
func (l *lookout) ways(o outlook) outlook {
	now := l.now()
	o.sight.primary = stateOf("mongo-primary", l.primary.Upstream, now).follow(o.sight.primary)
	o.sight.secondary = stateOf("mongo-secondary", l.secondary.Upstream, now).follow(o.sight.secondary)
	if o.sight.primary.kind != kindNoInstance {
		o.sight.quorum = blog.Quorum{}
	}
	switch away := l.consul != nil && l.consul() != nil; {
	case !away:
		o.sight.consulAway = time.Time{}
	case o.sight.consulAway.IsZero():
		o.sight.consulAway = now
	}
	return o
}

// see publishes what is new.
func (l *lookout) see(next outlook) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.seen
	fresh := changes(old.sight, next.sight, l.now())
	same := len(fresh) == 0 && next.sight == old.sight && sameHello(next.hello, old.hello) && sameHello(next.secondaryHello, old.secondaryHello) &&
		next.asked == old.asked && next.secondAsks == old.secondAsks
	if same {
		return
	}
	slices.Reverse(fresh)
	next.events = append(fresh, old.events...)
	next.events = next.events[:min(len(next.events), maxEvents)]
	next.number++
	l.seen = next
	close(l.changed)
	l.changed = make(chan struct{})
}

func sameHello(a, b blog.Hello) bool {
	return a.Set == b.Set && a.Primary == b.Primary && a.Me == b.Me && a.IsPrimary == b.IsPrimary && a.IsSecondary == b.IsSecondary && slices.Equal(a.Hosts, b.Hosts)
}

// current returns what is seen now and a channel that is closed when that changes.
func (l *lookout) current() (outlook, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen, l.changed
}

// join counts somebody who looks; false means that there are too many.
func (l *lookout) join() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watchers >= maxStreams {
		return false
	}
	l.watchers++
	return true
}

func (l *lookout) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers--
}
