package consul

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"

	"sluice/intentions"
	"sluice/mesh"
)

const (
	// defaultTimeout bounds the question for the default policy while new rules
	// wait to be published.
	defaultTimeout = 250 * time.Millisecond
	// defaultRetry is how soon an unknown default is asked for again, defaultCheck
	// how often a known one is, because it can change when the agent restarts.
	defaultRetry = time.Second
	defaultCheck = 30 * time.Second
)

// Intentions follows the intentions of one service, as destination or as source.
// It implements mesh.PolicySource.
//
// The default policy, which holds where no intention matches, is not part of the
// rules that Consul answers. It is learned from the agent, by asking for a verdict
// on a source that does not exist. Until it is known it is deny; while a wildcard
// intention to the service hides it, it cannot become known.
type Intentions struct {
	client  *Client
	service string
	rules   *Watch[[]intentions.Rule]
	// overlay is nil where the datacenter has no denials of its own.
	overlay *Watch[[]KVEntry]
	kick    chan struct{}
	snap    atomic.Pointer[policySnapshot]
}

type policySnapshot struct {
	policy  mesh.Policy
	known   bool
	changed chan struct{}
}

// DestinationPolicy returns the intentions that match service as destination:
// who may connect to it. It does nothing until Run.
func (c *Client) DestinationPolicy(service string) *Intentions {
	return c.policy(service, api.IntentionMatchDestination)
}

// SourcePolicy returns the intentions that match service as source: where it may
// connect to. It does nothing until Run.
func (c *Client) SourcePolicy(service string) *Intentions {
	return c.policy(service, api.IntentionMatchSource)
}

func (c *Client) policy(service string, by api.IntentionMatchType) *Intentions {
	i := &Intentions{client: c, service: service, kick: make(chan struct{}, 1)}
	i.snap.Store(&policySnapshot{changed: make(chan struct{})})
	if key := c.cfg.BreakGlass; key != "" {
		i.overlay = c.watchTree(key, i.kick)
	}
	i.rules = newWatch(watchConfig[[]intentions.Rule]{
		name: "intentions of " + service + " as " + string(by), kick: i.kick, logger: c.log,
		equal: slices.Equal[[]intentions.Rule],
		query: func(_ context.Context, options *api.QueryOptions) ([]intentions.Rule, *api.QueryMeta, error) {
			match := &api.IntentionMatch{By: by, Names: []string{service}}
			answer, meta, err := c.long.Connect().IntentionMatch(match, options)
			if err != nil {
				return nil, nil, explain("read intentions", serviceRule(service, "read"), err)
			}
			matches, there := answer[service]
			if err = whole(matches); !there {
				err = errOther
			}
			if err != nil {
				return nil, nil, fmt.Errorf("read intentions: %w", err)
			}
			return rulesOf(matches), meta, nil
		},
	})
	return i
}

// rulesOf translates Consul's intentions. Those that speak of a peered cluster
// say nothing about a source of this one, and are left out, as the agent does.
func rulesOf(matches []*api.Intention) []intentions.Rule {
	rules := make([]intentions.Rule, 0, len(matches))
	for _, match := range matches {
		if match.SourcePeer != "" || match.SourceSamenessGroup != "" {
			continue
		}
		rule := intentions.Rule{
			Source: match.SourceName, Destination: match.DestinationName,
			L7: len(match.Permissions) > 0, Description: match.Description,
		}
		if !rule.L7 {
			rule.Action = actionOf(match.Action)
		}
		rules = append(rules, rule)
	}
	return rules
}

func actionOf(action api.IntentionAction) intentions.Action {
	if action == api.IntentionActionAllow {
		return intentions.Allow
	}
	return intentions.Deny
}

// Policy returns the newest policy; false until the first answer.
func (i *Intentions) Policy() (mesh.Policy, bool) {
	snap := i.snap.Load()
	return snap.policy, snap.known
}

// Changed returns a channel that is closed when Policy starts to return other
// rules, or another default, than now.
func (i *Intentions) Changed() <-chan struct{} { return i.snap.Load().changed }

// Err returns why the policy cannot be confirmed at this moment; nil if it can.
func (i *Intentions) Err() error {
	if i.overlay == nil {
		return i.rules.State().Err
	}
	return errors.Join(i.rules.State().Err, i.overlay.State().Err)
}

// Run follows until ctx ends, and then returns nil.
func (i *Intentions) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return i.rules.Run(ctx) })
	if i.overlay != nil {
		group.Go(func() error { return i.overlay.Run(ctx) })
	}
	group.Go(func() error { return i.follow(ctx) })
	return group.Wait()
}

// defaultPolicy is what is known about the default.
type defaultPolicy struct {
	action     intentions.Action
	known      bool
	recoveries uint64
	asked      time.Time
}

// follow joins the rules and the default. It is the only writer of snap.
func (i *Intentions) follow(ctx context.Context) error {
	var learned defaultPolicy
	for {
		if rules := i.rules.State(); rules.Known && i.overlayKnown() {
			if learned.known {
				// A deny must not wait for an answer about the default.
				i.publish(rules, learned)
			}
			i.learnDefault(ctx, &learned, rules)
			i.publish(i.rules.State(), learned)
		}
		again := defaultCheck
		if !learned.known {
			again = defaultRetry
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-i.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// learnDefault asks for the default if it is due: it is unknown, the agent may
// have been restarted, or it was last asked for a while ago. What was known
// stays when the agent does not say. While an intention hides the default nothing is
// asked: the agent keeps its answer, and would go on giving it when the intention has
// gone (see Verdicts).
func (i *Intentions) learnDefault(ctx context.Context, learned *defaultPolicy, rules State[[]intentions.Rule]) {
	due := defaultCheck
	if !learned.known {
		due = 0
	}
	if slices.ContainsFunc(rules.Value, i.hidesDefault) || learned.recoveries == rules.Recoveries && time.Since(learned.asked) < due {
		return
	}
	learned.asked = time.Now()
	action, ok := i.client.askDefault(ctx, i.service)
	if ok {
		*learned = defaultPolicy{action: action, known: true, recoveries: rules.Recoveries, asked: learned.asked}
	}
}

// hidesDefault reports whether a rule is about every source of the service itself.
func (i *Intentions) hidesDefault(rule intentions.Rule) bool {
	return rule.Source == intentions.Wildcard && (rule.Destination == i.service || rule.Destination == intentions.Wildcard)
}

// askDefault asks the agent for a verdict on a source that does not exist. An
// answer counts only if the agent says that it is the default: an intention
// written at this very moment must not be taken for it. So an intention from
// every source to service hides the default. That is safe: what was not learned
// is deny, and what was learned before stays. Nothing else is asked instead,
// because a token that can only act as service may ask about service alone, and
// each refusal is an error in the agent's log.
func (c *Client) askDefault(ctx context.Context, service string) (intentions.Action, bool) {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	nobody := "spiffe://nobody.consul/ns/default/dc/nowhere/svc/nobody-" + strings.ToLower(rand.Text())
	answer, err := c.authorize(ctx, nobody, service)
	if err != nil || !isDefaultReason(answer.Reason) {
		return intentions.Deny, false
	}
	if answer.Authorized {
		return intentions.Allow, true
	}
	return intentions.Deny, true
}

// overlayKnown reports whether the datacenter's own denials are known, or there are
// none to know. Before, nothing is published: a deny could be missing.
func (i *Intentions) overlayKnown() bool { return i.overlay == nil || i.overlay.State().Known }

func (i *Intentions) publish(rules State[[]intentions.Rule], learned defaultPolicy) {
	old := i.snap.Load()
	set, confirmed := intentions.NewSet(rules.Value, learned.action), rules.Confirmed
	if i.overlay != nil {
		state := i.overlay.State()
		set = set.Under(overlayOf(i.client.cfg.BreakGlass, state.Value))
		if state.Confirmed.Before(confirmed) {
			confirmed = state.Confirmed
		}
	}
	next := &policySnapshot{known: true, changed: old.changed, policy: mesh.Policy{
		Set: set, Index: rules.Index, Confirmed: confirmed,
	}}
	changed := !old.known || !old.policy.Set.Equal(next.policy.Set)
	if changed {
		next.changed = make(chan struct{})
	}
	i.snap.Store(next)
	if changed {
		close(old.changed)
		i.client.log.Info("intentions changed", "watch", i.rules.cfg.name, "index", rules.Index,
			"rules", len(rules.Value), "default", string(next.policy.Set.Default()), "break_glass", len(set.Overlay().Denials()))
	}
}
