package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/internal/service"
	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/replset"
	"sluice/mongo-agent/role"
)

const (
	// operationsContext keeps the proof apart from every other use of the key.
	operationsContext = "sluice operations\n"
	operationTimeout  = 5 * time.Second
	freezeDefault     = 60
	freezeMost        = 24 * 60 * 60
)

// operations adds what changes the set: for drills and for maintenance. Whoever
// asks must prove that he holds the set's key file, because the endpoint is open
// to every process of the node.
func (a *agent) operations(ops *service.Ops) {
	for path, do := range map[string]func(context.Context, *http.Request) (any, error){
		"POST /handover": a.doHandOver,
		"POST /freeze":   a.doFreeze,
		"POST /resync":   a.doResync,
		"POST /members":  a.doMembers,
		"POST /promote":  a.doPromote,
	} {
		ops.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.operate(w, r, do) }))
	}
	ops.Handle("POST /salvage", http.HandlerFunc(a.serveSalvage))
}

// problem is the answer to a request that is not met.
type problem struct {
	Error string `json:"error"`
}

// proven reports whether the asker holds the set's key, and answers him if not.
func (a *agent) proven(w http.ResponseWriter, r *http.Request) bool {
	given, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer || subtle.ConstantTimeCompare([]byte(given), []byte(operationsProof(a.key))) != 1 {
		answer(w, http.StatusUnauthorized, problem{"want Authorization: Bearer and the proof that you hold the set's key file"})
		return false
	}
	return true
}

func (a *agent) operate(w http.ResponseWriter, r *http.Request, do func(context.Context, *http.Request) (any, error)) {
	if !a.proven(w, r) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), operationTimeout)
	defer cancel()
	done, err := do(ctx, r)
	var bad badRequestError
	switch {
	case err == nil:
		answer(w, http.StatusOK, done)
	case errors.As(err, &bad):
		answer(w, http.StatusBadRequest, problem{err.Error()})
	default:
		answer(w, http.StatusConflict, problem{err.Error()})
	}
}

// badRequestError is a request that makes no sense.
type badRequestError struct{ error }

// operationsProof is what shows that somebody holds the key, without the key.
func operationsProof(key mongod.Secret) string {
	sum := sha256.Sum256([]byte(operationsContext + key.Reveal()))
	return hex.EncodeToString(sum[:])
}

type handedOver struct {
	From string `json:"from"`
	To   string `json:"to"`
	Took millis `json:"took_ms"`
}

func (a *agent) doHandOver(ctx context.Context, r *http.Request) (any, error) {
	started := time.Now()
	to, err := a.handOver(ctx, r.URL.Query().Get("to"))
	if err != nil {
		return nil, err
	}
	return handedOver{From: a.Node, To: to, Took: millis(time.Since(started))}, nil
}

type frozen struct {
	Node    string `json:"node"`
	Seconds int    `json:"seconds"`
}

// doFreeze keeps the own member from standing for election for a while; 0 seconds
// takes that back.
func (a *agent) doFreeze(ctx context.Context, r *http.Request) (any, error) {
	seconds := freezeDefault
	if text := r.URL.Query().Get("seconds"); text != "" {
		var err error
		if seconds, err = strconv.Atoi(text); err != nil || seconds < 0 || seconds > freezeMost {
			return nil, badRequestError{fmt.Errorf("seconds=%q: want 0 to %d", text, freezeMost)}
		}
	}
	if s, _ := a.board.Snapshot(); s.State != role.Secondary {
		return nil, fmt.Errorf("freeze: the member is %v, and only a secondary can be kept from standing", s.State)
	}
	err := mongod.Admin(ctx, a.system, bson.D{{Key: "replSetFreeze", Value: seconds}}, nil)
	return frozen{a.Node, seconds}, err
}

// doResync says whether the own member may lose its data and copy it anew: not a
// primary, and not while the others could not go on without it. Who runs mongod
// does the rest, because mongod must be stopped for it.
func (a *agent) doResync(_ context.Context, _ *http.Request) (any, error) {
	s, _ := a.board.Snapshot()
	if s.State == role.Primary {
		return nil, errors.New("resync: the member is primary; step it down first")
	}
	view, _ := a.circle.View()
	healthy, voters, primary := 0, len(view.Peers), false
	if a.electable.Load() {
		voters++
	}
	for _, p := range view.Peers {
		if p.Known && !p.Lost && !p.Status.Frozen && p.Status.Role.Served() {
			healthy++
			primary = primary || p.Status.Role == role.Primary
		}
	}
	switch {
	case !primary:
		return nil, errors.New("resync: no other member is primary")
	case 2*healthy <= voters:
		return nil, fmt.Errorf("resync: only %d of %d voters are healthy without this one, and that is no majority", healthy, voters)
	}
	return struct {
		Node    string `json:"node"`
		Allowed bool   `json:"allowed"`
	}{a.Node, true}, nil
}

// reshaped is how far the set is from the members that were asked for.
type reshaped struct {
	// Pending says what is still to be done; empty when all is.
	Pending string `json:"pending"`
}

// maxMembers bounds the body of a request for other members, in bytes.
const maxMembers = 64 << 10

// promoted says who votes after a forced configuration.
type promoted struct {
	Voters []string `json:"voters"`
}

// doPromote makes the members of one datacenter, the own one, the only voters, without
// a majority's consent. It is refused while the agent knows a primary that is heard:
// then a hand-over does the same and loses nothing.
func (a *agent) doPromote(ctx context.Context, r *http.Request) (any, error) {
	if place := r.URL.Query().Get("datacenter"); place != a.Datacenter {
		return nil, badRequestError{fmt.Errorf("datacenter=%q: this agent is in %s", place, a.Datacenter)}
	}
	view, _ := a.circle.View()
	if known := a.primaries(view); len(known) > 0 {
		return nil, fmt.Errorf("promote: %s is primary and is heard; let it hand over", strings.Join(known, " and "))
	}
	var voters []string
	for _, m := range a.Members {
		if m.Datacenter == a.Datacenter {
			voters = append(voters, m.Address)
		}
	}
	if err := replset.Force(ctx, replset.Config{Set: a.Set, Mongod: a.Mongod, Key: a.key, Logger: a.logger}, voters); err != nil {
		return nil, err
	}
	a.standAlone(ctx)
	return promoted{voters}, nil
}

const (
	// standAloneTimeout bounds the tries of standAlone; after it the set's own election
	// time-out decides. standAlonePause is between two of them.
	standAloneTimeout = 2 * time.Second
	standAlonePause   = 50 * time.Millisecond
)

// standAlone has the own mongod stand for election among the voters that are left, who
// would otherwise wait out their time for a primary that has no vote any more. The
// first tries fail: the other voters must have heard of the configuration.
func (a *agent) standAlone(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, standAloneTimeout)
	defer cancel()
	for ctx.Err() == nil {
		err := mongod.Admin(ctx, a.system, bson.D{{Key: "replSetStepUp", Value: 1}}, nil)
		if err == nil {
			// It would wait for operations of members that nobody hears.
			if err := mongod.Admin(ctx, a.system, bson.D{{Key: "replSetAbortPrimaryCatchUp", Value: 1}}, nil); err != nil {
				a.logger.Debug("catch-up was over already", "err", err)
			}
			a.follower.Ask()
			return
		}
		a.logger.Debug("not elected yet", "err", err)
		pause(ctx, standAlonePause)
	}
}

// doMembers makes one change on the way to a set of exactly the members in the body.
// Whoever asks asks again until nothing is pending.
func (a *agent) doMembers(ctx context.Context, r *http.Request) (any, error) {
	var wanted []replset.Member
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxMembers))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&wanted); err != nil {
		return nil, badRequestError{fmt.Errorf("want a list of members: %w", err)}
	}
	if len(wanted) == 0 {
		return nil, badRequestError{errors.New("a set without members is none")}
	}
	for _, m := range wanted {
		if !slices.ContainsFunc(a.Members, func(known member) bool {
			return known.Address == m.Address && known.Datacenter == m.Datacenter
		}) {
			return nil, badRequestError{fmt.Errorf("%s in %q is none of the members that this agent knows ways to", m.Address, m.Datacenter)}
		}
	}
	pending, err := replset.Reshape(ctx, replset.Config{
		Set: a.Set, Mongod: a.Mongod, Members: wanted, Timing: a.profile.Timing, Key: a.key, Logger: a.logger,
	})
	return reshaped{pending}, err
}
