package mesh

import (
	"errors"
	"time"
)

// farewell is the end of all connections to one instance, in the order in which
// clients recover from it fastest: first those that only watch, then, when these
// have come back and are held, those that carry work.
type farewell struct {
	record *Switch
	// awaited counts the connections that only watched and have not come back.
	awaited int
	back    chan struct{}
}

// lost is called when the instance has ended a connection. It returns when the
// client may notice.
func (l *link) lost(err error) error {
	d := l.led
	if l.leaving.Load() {
		return err
	}
	if own, e := d.cfg.Dialer.credentials(); e == nil && d.cfg.Dialer.refused(own, d.cfg.Service) != nil {
		l.end() // a deny is to be noticed at once
		return err
	}
	d.mu.Lock()
	l.doomed = true
	if errors.Is(err, errNotLeading) {
		d.doom(l.place.address)
	}
	resets := d.part(l.place.address, err.Error())
	d.mu.Unlock()
	for _, sentinel := range resets {
		sentinel.end()
	}
	<-l.finished
	return err
}

// doom marks all connections to an instance and cuts its side of them. The
// caller holds mu.
func (d *led) doom(address string) {
	for l := range d.links {
		if l.place.address == address {
			l.doomed = !l.held
			d.count.superseded.Add(1)
			l.remote.Cut("another instance leads")
		}
	}
}

// part begins the farewell to an instance, or joins the one under way. It returns
// the connections that the caller resets once it has let go of mu, which it
// holds.
func (d *led) part(address, reason string) []*link {
	if d.leader != nil && d.leader.instance.Address == address {
		d.drop()
	}
	if d.farewells[address] != nil {
		return nil
	}
	now := time.Now()
	f := &farewell{back: make(chan struct{})}
	var resets []*link
	for l := range d.links {
		if l.place.address == address && !l.held && l.sentinel() {
			resets = append(resets, l)
			if Judgement(l.watches.Load()) == Yes {
				f.awaited++
			}
		}
	}
	first := Switch{Lost: now, Reason: reason, From: address, Sentinels: len(resets)}
	if len(resets) > 0 {
		first.SentinelReset = now
	}
	if f.record = d.log.recent(address, now); f.record == nil {
		f.record = d.log.begin(first)
		d.count.switches.Add(1)
	}
	if f.awaited == 0 {
		close(f.back)
	}
	d.farewells[address] = f
	d.group.Go(func() { d.letGo(address, f) })
	return resets
}

// letGo waits for the sentinels and then resets the others.
func (d *led) letGo(address string, f *farewell) {
	timer := time.NewTimer(sentinelWait)
	defer timer.Stop()
	select {
	case <-f.back:
	case <-timer.C:
	}
	d.mu.Lock()
	delete(d.farewells, address)
	var rest []*link
	working := 0
	for l := range d.links {
		if !l.doomed || l.place.address != address {
			continue
		}
		// Also one whose client has left meanwhile: somebody waits for its end.
		if rest = append(rest, l); !l.leaving.Load() {
			working++
		}
	}
	d.mu.Unlock()
	now := time.Now()
	for _, l := range rest {
		l.end()
	}
	d.log.update(f.record, func(s *Switch) {
		if s.RestReset.IsZero() {
			s.RestReset = now
		}
		s.Rest += working
	})
}

// sentinelBack is called when a connection that may only watch has come.
func (d *led) sentinelBack() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.farewells {
		if f.awaited == 0 {
			continue
		}
		if f.awaited--; f.awaited == 0 {
			close(f.back)
			d.log.update(f.record, func(s *Switch) { s.SentinelBack = time.Now() })
		}
	}
}

// learn takes the news that the instance at address leads in epoch, and ends all
// connections that this overtakes.
func (d *led) learn(address string, epoch int64, reason string) {
	d.mu.Lock()
	var resets []*link
	if d.leadership.learn(address, epoch) {
		resets = d.supersede(address, epoch, reason)
	}
	d.mu.Unlock()
	for _, sentinel := range resets {
		sentinel.end()
	}
}

// heard is learn for what address says of itself. The next round gives a leader
// that fell for it a later start, or its open door would win the race again.
func (d *led) heard(address string, epoch int64, reason string) {
	d.mu.Lock()
	var resets []*link
	if d.unproven(address, epoch) {
		d.rejected[d.leader.instance.Address]++
		d.drop()
		resets = d.supersede(address, epoch, reason)
	}
	d.mu.Unlock()
	for _, sentinel := range resets {
		sentinel.end()
	}
	d.learn(address, epoch, reason)
}

// supersede cuts what address has overtaken by leading in epoch, and returns the
// clients to reset. The caller holds mu.
func (d *led) supersede(address string, epoch int64, reason string) (resets []*link) {
	over := map[string]bool{}
	for l := range d.links {
		if d.overtaken(l.place, address) {
			over[l.place.address] = true
			l.doomed = !l.held
			d.count.superseded.Add(1)
			l.remote.Cut("another instance leads")
		} else if l.place.epoch == 0 {
			l.place.epoch = epoch
		}
	}
	for from := range over {
		resets = append(resets, d.part(from, "overtaken: "+reason)...)
	}
	d.broadcast()
	return resets
}
