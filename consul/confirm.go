package consul

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// When the servers are asked whether they hold what the agent holds: a moment
// after the last change, and again until they do.
const (
	confirmAfter = 300 * time.Millisecond
	confirmAgain = 500 * time.Millisecond
	// confirmTimeout bounds the questions of one round.
	confirmTimeout = 500 * time.Millisecond
	// maxResent bounds how often one change is sent again: a token that may not
	// read the catalog never sees it there.
	maxResent = 6
)

// confirmAll confirms every instance that is due. It has little time: while no
// server answers, the checks must be kept alive all the same.
func (r *Registrar) confirmAll(ctx context.Context, instances []*desiredInstance) (next time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	next = reconcileEvery
	for _, instance := range instances {
		next = min(next, r.confirm(ctx, instance))
	}
	return next
}

// confirm asks the servers whether they hold the instance as the agent does, and
// has the registration sent again, as a new one, if they do not.
//
// An agent that is told something while it is pushing what it was told before
// takes both for pushed (Consul 1.22, agent/local, syncService: it marks the
// service and its checks as in sync when the answer arrives). What was told last
// then waits for the next full sync: half a minute, or more in larger clusters.
func (r *Registrar) confirm(ctx context.Context, instance *desiredInstance) (next time.Duration) {
	r.mu.Lock()
	registration, last := instance.registration, instance.report
	r.mu.Unlock()
	if instance.confirmAt.IsZero() {
		return reconcileEvery
	}
	if left := time.Until(instance.confirmAt); left > 0 {
		return left
	}
	known, err := r.knownToServers(ctx, registration, last)
	switch {
	case err != nil:
		// No server, no answer: nothing is known, so nothing is done.
		instance.confirmAt = time.Now().Add(reconcileEvery)
		return reconcileEvery
	case known:
		instance.confirmAt, instance.resent = time.Time{}, 0
		return reconcileEvery
	case instance.resent >= maxResent:
		r.client.log.Warn("servers do not show the registration, giving up until it changes", "instance", registration.ID)
		instance.confirmAt, instance.resent = time.Time{}, 0
		return reconcileEvery
	}
	instance.resent++
	r.client.log.Info("servers lack the registration, sending it again", "instance", registration.ID)
	r.mu.Lock()
	if instance.registration.Meta[metaIncarnation] == registration.Meta[metaIncarnation] {
		instance.registration = registration.clone()
		r.given++
		instance.registration.Meta[metaIncarnation] = r.incarnation + "-" + strconv.Itoa(r.given)
	}
	r.mu.Unlock()
	instance.registered = false
	instance.confirmAt = time.Now().Add(confirmAgain)
	return 0
}

// knownToServers reports whether the catalog has the registration with the
// status that was reported last.
func (r *Registrar) knownToServers(ctx context.Context, registration Registration, last report) (bool, error) {
	options := query(ctx)
	options.Filter = fmt.Sprintf("Service.ID == %q", registration.ID)
	entries, err := healthOf(r.client.brief.Health().Service, registration.Name, options)
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		if entry.Service.Meta[metaIncarnation] == registration.Meta[metaIncarnation] {
			return registration.Check.TTL == 0 || last.status == "" || hasStatus(entry.Checks, registration.checkID(), last.status), nil
		}
	}
	return false, nil
}

func hasStatus(checks []*toldCheck, id, status string) bool {
	for _, check := range checks {
		if check.CheckID == id {
			return check.Status == status
		}
	}
	return false
}
