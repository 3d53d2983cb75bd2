package mesh

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// maxCandidates bounds the instances that are tried at the same time.
	maxCandidates = 16
	// probeTimeout bounds one try; probePauseMin and probePauseMax the pause
	// between two tries of one instance, which grows with the time that they have
	// taken so far.
	probeTimeout  = 300 * time.Millisecond
	probePauseMin = 5 * time.Millisecond
	probePauseMax = 50 * time.Millisecond
	// catalogTimeout bounds the wait for the resolver's first answer.
	catalogTimeout = 250 * time.Millisecond
	// silence is how long an instance may leave work without an answer before
	// others are asked whether they lead; it is looked at every silenceTick, and
	// they are asked again after a pause that grows up to silencePauseMax.
	silence         = 150 * time.Millisecond
	silenceTick     = 50 * time.Millisecond
	silencePauseMax = 500 * time.Millisecond
)

// find is what became of one try.
type find struct {
	instance Instance
	conn     *Conn
	err      error
}

// seek finds a leader whenever somebody waits for one, until ctx ends.
func (d *led) seek(ctx context.Context) {
	for {
		select {
		case <-d.want:
		case <-ctx.Done():
			return
		}
		for d.needed() && ctx.Err() == nil {
			d.round(ctx)
		}
	}
}

func (d *led) needed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.leader == nil && len(d.held) > 0
}

// round tries all candidates at the same time, each again and again, until one
// accepts, the catalog changes or nobody waits any more.
func (d *led) round(ctx context.Context) {
	news := d.news()
	candidates := d.candidates(ctx)
	if err := d.forbidden(); err != nil {
		d.refuse(err)
		return
	}
	if len(candidates) == 0 {
		d.state.set(d.nobody(ErrNoInstance))
		sleep(ctx, probePauseMax, news)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan find)
	var tries sync.WaitGroup
	for _, candidate := range candidates {
		tries.Go(func() { d.try(ctx, candidate, results) })
	}
	defer tries.Wait()
	defer cancel()
	d.collect(ctx, results, news, len(candidates))
}

// collect takes the results of a round.
func (d *led) collect(ctx context.Context, results <-chan find, news <-chan struct{}, candidates int) {
	ticker := time.NewTicker(2 * probePauseMax)
	defer ticker.Stop()
	failed := make(map[string]error, candidates)
	for {
		select {
		case f := <-results:
			if f.err == nil {
				d.elected(f)
				return
			}
			failed[f.instance.Address] = f.err
			d.state.set(d.nobody(f.err))
			if err := final(failed); err != nil && len(failed) == candidates {
				d.refuse(err)
				return
			}
		case <-ticker.C:
			if !d.needed() {
				return
			}
		case <-news:
			return
		case <-ctx.Done():
			return
		}
	}
}

// final returns a failure that waiting does not cure, if there is one.
func final(failed map[string]error) error {
	for _, err := range failed {
		if errors.Is(err, ErrDenied) || errors.Is(err, ErrWrongIdentity) {
			return err
		}
	}
	return nil
}

// try dials one candidate until it accepts.
func (d *led) try(ctx context.Context, candidate Instance, results chan<- find) {
	pause := d.penalty(candidate.Address)
	if pause > 0 && !sleep(ctx, pause, nil) {
		return
	}
	pause = max(pause, probePauseMin)
	for since := time.Now(); ; pause = max(pause, min(time.Since(since)/20, probePauseMax)) {
		d.count.probes.Add(1)
		attempt, cancel := context.WithTimeout(ctx, probeTimeout)
		conn, err := d.cfg.Dialer.probe(attempt, candidate)
		cancel()
		select {
		case results <- find{candidate, conn, err}:
		case <-ctx.Done():
			if conn != nil {
				conn.abort("another instance was faster")
			}
			return
		}
		if err == nil || !sleep(ctx, pause, nil) {
			return
		}
	}
}

// penalty is how long an instance has to wait that was found and did not lead.
func (d *led) penalty(address string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.rejected[address]
	if n == 0 {
		return 0
	}
	return min(probePauseMin<<min(n-1, 8), probePauseMax)
}

func (d *led) elected(f find) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.elect(f.instance, d.cfg.Epoch(f.instance), f.conn) {
		f.conn.abort("its epoch is over")
		return
	}
	d.broadcast()
}

// refuse tells everybody who waits that it is in vain.
func (d *led) refuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refusal = err
	d.refused++
	clear(d.held)
	d.broadcast()
}

// forbidden returns the deny of our own intentions, if there is one.
func (d *led) forbidden() error {
	own, err := d.cfg.Dialer.credentials()
	if err != nil {
		return nil
	}
	return d.cfg.Dialer.refused(own, d.cfg.Service)
}

// news returns a channel that is closed when the catalog changes.
func (d *led) news() <-chan struct{} {
	if r, ok := d.cfg.Dialer.cfg.Resolver.(resolutions); ok {
		return r.Changed(d.cfg.Service)
	}
	return nil
}

// catalog returns what the resolver names, and takes note of the epochs.
func (d *led) catalog(ctx context.Context) []Instance {
	if d.cfg.Dialer.cfg.Resolver == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, catalogTimeout)
	defer cancel()
	instances, err := d.cfg.Dialer.cfg.Resolver.Instances(ctx, d.cfg.Service)
	if err != nil {
		return nil
	}
	for _, instance := range instances {
		if epoch := d.cfg.Epoch(instance); epoch > 0 {
			d.learn(instance.Address, epoch, "the catalog says so")
		}
	}
	return instances
}

func (d *led) candidates(ctx context.Context) []Instance {
	catalog := d.catalog(ctx)
	var guesses []Instance
	if d.cfg.Candidates != nil {
		guesses = d.cfg.Candidates()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.eligible(catalog, guesses, d.cfg.Epoch)
}

// watchCatalog learns the epochs that the catalog names.
func (d *led) watchCatalog(ctx context.Context) {
	for {
		news := d.news()
		d.catalog(ctx)
		if !sleep(ctx, time.Second, news) {
			return
		}
	}
}

// watchSilence asks the others when the leader leaves work unanswered.
func (d *led) watchSilence(ctx context.Context) {
	if d.cfg.Protocol == nil || len(d.cfg.Protocol.Question) == 0 {
		return
	}
	ticker := time.NewTicker(silenceTick)
	defer ticker.Stop()
	var pause time.Duration
	var next time.Time
	for {
		select {
		case now := <-ticker.C:
			address, silent := d.silent(now)
			if !silent {
				pause, next = 0, now
				continue
			}
			if now.Before(next) {
				continue
			}
			d.ask(ctx, address)
			pause = min(max(2*pause, silenceTick), silencePauseMax)
			next = time.Now().Add(pause)
		case <-ctx.Done():
			return
		}
	}
}

// silent returns the address of an instance that has left work unanswered.
func (d *led) silent(now time.Time) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for l := range d.links {
		asked := l.asked.Load()
		if asked != 0 && (l.held || !l.sentinel()) && now.UnixNano()-asked > int64(silence) {
			return l.place.address, true
		}
	}
	return "", false
}

// ask asks all others whether they lead. An answer counts with a higher epoch
// than any that was known, or with that one against a leader that has never said
// anything: a slow leader stays the leader.
func (d *led) ask(ctx context.Context, silent string) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var asking sync.WaitGroup
	for _, candidate := range d.candidates(ctx) {
		if candidate.Address == silent {
			continue
		}
		asking.Go(func() {
			d.count.probes.Add(1)
			conn, err := d.cfg.Dialer.probe(ctx, candidate)
			if err != nil {
				return
			}
			defer conn.Cut("asked")
			defer context.AfterFunc(ctx, func() { conn.Cut("no answer in time") })()
			if _, err := conn.Write(d.cfg.Protocol.Question); err != nil {
				return
			}
			if answer, _, err := listen(conn, d.cfg.Protocol); err == nil && answer.Leads == Yes && answer.Epoch > 0 {
				d.heard(candidate.Address, answer.Epoch, silent+" is silent, and another one leads")
			}
		})
	}
	asking.Wait()
}

// sleep waits for d or for news; false means that ctx has ended.
func sleep(ctx context.Context, d time.Duration, news <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-news:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
