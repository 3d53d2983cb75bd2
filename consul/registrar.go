package consul

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// reconcileEvery is how often desired and actual are compared while all is
	// well, reconcileRetry while the agent cannot be asked.
	reconcileEvery = 2 * time.Second
	reconcileRetry = 250 * time.Millisecond
	// patientAfter is after how many failures in a row a refusal by ACLs, which does
	// not pass by itself, is not worth a quick retry any more.
	patientAfter = 20
	// metaIncarnation is the key of an instance's metadata that tells one
	// registration from the next.
	metaIncarnation = "incarnation"
	// leaveTimeout bounds the deregistration at the end.
	leaveTimeout = 2 * time.Second
)

// Registrar keeps the agent's registrations as they are desired, for ever: an
// agent that was restarted and forgot them has them back within seconds. Set,
// Remove, Pass, Warn and Fail never wait for the agent; they take effect at once
// if Run is running and the agent is there, else as soon as it is.
type Registrar struct {
	client *Client
	kick   chan struct{}
	// incarnation and given make each registration and its check differ from any
	// before, such as those that a restarted agent has loaded from its disk. Given
	// the very same again, an agent takes it for known to the servers, even if it is
	// not, and nobody sees it until the next full sync (Consul 1.22, agent/local,
	// setServiceStateLocked and setCheckStateLocked).
	incarnation string
	given       int

	mu      sync.Mutex
	desired map[string]*desiredInstance
	// leaving holds removed instances that the agent may still have.
	leaving map[string]bool
	// wanted counts the calls that changed something, settled is the count that
	// the agent is known to hold.
	wanted, settled uint64
	round           chan struct{}
	err             error
	// problems are why instances are not registered as they should be, by ID.
	problems map[string]error
}

// desiredInstance is guarded by Registrar.mu, except that only Run's goroutine
// uses registered, confirmAt, resent and reportedAt.
type desiredInstance struct {
	registration Registration
	report       report
	// reportVersion counts reports; reported is the one that the agent has.
	reportVersion, reported uint64
	reportedAt              time.Time
	// registered says that this registration, as it is, was sent to the agent.
	registered bool
	// confirmAt is when the servers are asked whether they have it too; zero when
	// they do.
	confirmAt time.Time
	resent    int
}

// Registrar returns a registrar that desires nothing yet. It does nothing until
// Run.
func (c *Client) Registrar() *Registrar {
	return &Registrar{
		client: c, kick: make(chan struct{}, 1), round: make(chan struct{}),
		desired: map[string]*desiredInstance{}, leaving: map[string]bool{}, problems: map[string]error{},
		incarnation: rand.Text(),
	}
}

// Set makes a registration desired, in place of any other with its ID.
func (r *Registrar) Set(registration Registration) {
	r.change(func() {
		instance := &desiredInstance{registration: registration.clone()}
		if instance.registration.Meta == nil {
			instance.registration.Meta = map[string]string{}
		}
		r.given++
		instance.registration.Meta[metaIncarnation] = fmt.Sprintf("%s-%d", r.incarnation, r.given)
		if old, ok := r.desired[registration.ID]; ok {
			instance.report, instance.reportVersion = old.report, old.reportVersion
		}
		r.desired[registration.ID] = instance
		delete(r.leaving, registration.ID)
	})
}

// Remove makes the registration with this ID undesired.
func (r *Registrar) Remove(id string) {
	r.change(func() {
		delete(r.desired, id)
		delete(r.problems, id)
		r.leaving[id] = true
	})
}

// Pass reports the instance as healthy, Warn as degraded, Fail as not to be used.
// They need a TTL check.
func (r *Registrar) Pass(id, note string) { r.report(id, report{api.HealthPassing, note}) }

// Warn reports the instance as degraded; see Pass.
func (r *Registrar) Warn(id, note string) { r.report(id, report{api.HealthWarning, note}) }

// Fail reports the instance as not to be used; see Pass.
func (r *Registrar) Fail(id, note string) { r.report(id, report{api.HealthCritical, note}) }

func (r *Registrar) report(id string, last report) {
	r.change(func() {
		if instance, ok := r.desired[id]; ok && instance.report != last {
			instance.report = last
			instance.reportVersion++
		}
	})
}

func (r *Registrar) change(do func()) {
	r.mu.Lock()
	do()
	r.wanted++
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Wait returns when the agent holds everything that was desired when Wait was
// called, or when ctx ends, with the reason why it did not until then.
func (r *Registrar) Wait(ctx context.Context) error {
	r.mu.Lock()
	wanted := r.wanted
	r.mu.Unlock()
	for {
		r.mu.Lock()
		settled, round, err := r.settled, r.round, r.err
		r.mu.Unlock()
		if settled >= wanted {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = errors.New("the agent has not been asked yet")
			}
			return fmt.Errorf("wait for registration: %w: %w", context.Cause(ctx), err)
		case <-round:
		}
	}
}

// Problem returns why the agent does not hold the instance as desired; nil if it
// does, or has not been asked yet.
func (r *Registrar) Problem(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problems[id]
}

// Run reconciles until ctx ends, then deregisters everything, for at most two
// seconds, and returns nil: what could not be deregistered is logged, and its
// check turns critical by itself.
func (r *Registrar) Run(ctx context.Context) error {
	failures := 0
	for {
		next, err := r.reconcile(ctx)
		if ctx.Err() != nil {
			if err := r.leave(context.WithoutCancel(ctx)); err != nil {
				r.client.log.Warn("left without deregistering", "err", err)
			}
			return nil
		}
		if err != nil {
			if failures++; failures == 1 {
				r.client.log.Warn("registration failed, trying again", "err", err)
			}
			next = reconcileRetry
			if failures > patientAfter && errors.Is(err, ErrForbidden) {
				next = reconcileEvery
			}
		} else if failures > 0 {
			r.client.log.Info("registration recovered", "failures", failures)
			failures = 0
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-r.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// reconcile makes the agent hold what is desired, and returns when to look again.
func (r *Registrar) reconcile(ctx context.Context) (time.Duration, error) {
	r.mu.Lock()
	wanted := r.wanted
	todo := make([]*desiredInstance, 0, len(r.desired))
	for _, instance := range r.desired {
		todo = append(todo, instance)
	}
	leaving := make([]string, 0, len(r.leaving))
	for id := range r.leaving {
		leaving = append(leaving, id)
	}
	r.mu.Unlock()

	next, err := r.apply(ctx, todo, leaving)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	if err == nil {
		r.settled = max(r.settled, wanted)
	}
	close(r.round)
	r.round = make(chan struct{})
	return next, err
}

func (r *Registrar) apply(ctx context.Context, todo []*desiredInstance, leaving []string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	next := reconcileEvery
	if len(todo) == 0 && len(leaving) == 0 {
		return next, nil
	}
	ids := slices.Clone(leaving)
	for _, instance := range todo {
		ids = append(ids, instance.registration.ID)
	}
	services, checks, err := r.actual(ctx, ids)
	if err != nil {
		return next, err
	}
	var failed error
	for _, id := range leaving {
		failed = errors.Join(failed, r.deregister(ctx, id, services[id] != nil))
	}
	for _, instance := range todo {
		again, err := r.converge(ctx, instance, services, checks)
		r.note(instance.registration.ID, err)
		next = min(next, again)
		failed = errors.Join(failed, err)
	}
	if failed == nil || errors.Is(failed, ErrForbidden) {
		next = min(next, r.confirmAll(ctx, todo))
	}
	return next, failed
}

// note keeps why an instance is not as desired; nil is that it is.
func (r *Registrar) note(id string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.desired[id] == nil || err == nil {
		delete(r.problems, id)
		return
	}
	r.problems[id] = err
}

// agentCheck is what is read of a check that the agent has. The api package's own type
// panics at a null in place of its definition.
type agentCheck struct{ Type string }

// actual returns what the agent has of some instances, and maybe of others.
func (r *Registrar) actual(ctx context.Context, ids []string) (map[string]*api.AgentService, map[string]*agentCheck, error) {
	agent := r.client.brief.Agent()
	services, err := agent.ServicesWithFilterOpts(anyOf("ID", ids), query(ctx))
	if err != nil {
		return nil, nil, explain("read the agent's registrations", "a token that the agent knows", err)
	}
	var checks map[string]*agentCheck
	if _, err := agent.ChecksWithFilterOpts(anyOf("ServiceID", ids), readJSON(query(ctx), &checks)); err != nil {
		return nil, nil, explain("read the agent's checks", "a token that the agent knows", err)
	}
	return services, checks, nil
}

// mostNamed is how many IDs a filter names at most.
const mostNamed = 20

// plainID is an ID that means itself between quotes.
var plainID = regexp.MustCompile(`^[0-9A-Za-z_.:/-]+$`)

// anyOf is a filter on what has one of some IDs: the agent may have much of others. It
// is "", which filters nothing, if that cannot be said.
func anyOf(field string, ids []string) string {
	var terms []string
	for _, id := range ids {
		if !plainID.MatchString(id) || len(ids) > mostNamed {
			return ""
		}
		terms = append(terms, field+` == "`+id+`"`)
	}
	return strings.Join(terms, " or ")
}

// converge brings one instance in line: the registration, then the report.
func (r *Registrar) converge(ctx context.Context, instance *desiredInstance, services map[string]*api.AgentService, checks map[string]*agentCheck) (time.Duration, error) {
	r.mu.Lock()
	registration, last, version := instance.registration, instance.report, instance.reportVersion
	r.mu.Unlock()
	fresh := false
	if !instance.registered || !registration.matches(services[registration.ID], checks[registration.checkID()]) {
		options := api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx)
		if err := r.client.brief.Agent().ServiceRegisterOpts(registration.request(last), options); err != nil {
			return 0, explain("register "+registration.ID, serviceRule(registration.Name, "write"), err)
		}
		instance.registered, fresh = true, true
		instance.confirmAt = time.Now().Add(confirmAfter)
		r.client.log.Info("registered", "service", registration.Name, "instance", registration.ID)
	}
	ttl := registration.Check.TTL
	if ttl <= 0 || registration.Check.HTTP != "" || last.status == "" {
		return reconcileEvery, nil
	}
	every := ttl / 3
	if age := time.Since(instance.reportedAt); !fresh && instance.reported == version && age < every {
		return every - age, nil
	}
	sent := time.Now()
	if err := r.client.brief.Agent().UpdateTTLOpts(registration.checkID(), last.note, last.status, query(ctx)); err != nil {
		// If the agent has forgotten the instance, the next round sees that.
		return 0, explain("report on "+registration.ID, serviceRule(registration.Name, "write"), err)
	}
	if instance.reported != version {
		instance.confirmAt = sent.Add(confirmAfter)
	}
	instance.reported, instance.reportedAt = version, sent
	return every, nil
}

func (r *Registrar) deregister(ctx context.Context, id string, present bool) error {
	if present {
		err := r.client.brief.Agent().ServiceDeregisterOpts(id, query(ctx))
		if err != nil && !isNotFound(err) {
			return explain("deregister "+id, "service write for it", err)
		}
		r.client.log.Info("deregistered", "instance", id)
	}
	r.mu.Lock()
	delete(r.leaving, id)
	r.mu.Unlock()
	return nil
}

// leave deregisters everything.
func (r *Registrar) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	r.mu.Lock()
	ids := make([]string, 0, len(r.desired)+len(r.leaving))
	for id := range r.desired {
		ids = append(ids, id)
	}
	for id := range r.leaving {
		ids = append(ids, id)
	}
	r.mu.Unlock()
	var failed error
	for _, id := range ids {
		failed = errors.Join(failed, r.deregister(ctx, id, true))
	}
	return failed
}
