package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/role"
	"sluice/mongo-agent/salvage"
)

// salvageTimeout bounds the reading of a log, and so what one request can cost.
const salvageTimeout = 5 * time.Minute

// serveSalvage answers with one line of JSON (MongoDB Extended JSON) for every
// operation that the mongod at ?mongod=, started on the data of the own member, has
// and the set's primary has not. The line after the last is {"complete":true}: without
// it the list is cut short.
func (a *agent) serveSalvage(w http.ResponseWriter, r *http.Request) {
	if !a.proven(w, r) {
		return
	}
	address := r.URL.Query().Get("mongod")
	if err := loopback(address); err != nil {
		answer(w, http.StatusBadRequest, problem{fmt.Sprintf("mongod=%q: %v", address, err)})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), salvageTimeout)
	defer cancel()
	begun := false
	err := a.salvage(ctx, address, func(lost salvage.Lost) error {
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			begun = true
		}
		line, err := bson.MarshalExtJSON(lost, false, false)
		if err == nil {
			_, err = w.Write(append(line, '\n'))
		}
		return err
	})
	switch {
	case err == nil:
		_, _ = w.Write([]byte("{\"complete\":true}\n"))
	case !begun:
		answer(w, http.StatusConflict, problem{err.Error()})
	default:
		a.logger.Error("the list of lost operations is cut short", "err", err)
	}
}

func (a *agent) salvage(ctx context.Context, address string, each func(salvage.Lost) error) error {
	primary := ""
	view, _ := a.circle.ViewAll()
	for _, p := range view.Peers {
		if p.Known && !p.Lost && p.Status.Role == role.Primary {
			primary = p.Status.Member
		}
	}
	if primary == "" {
		return errors.New("salvage: no primary is heard")
	}
	set, err := mongod.System(primary, a.key)
	if err != nil {
		return err
	}
	defer mongod.Close(set)
	member, err := mongod.System(address, a.key)
	if err != nil {
		return err
	}
	defer mongod.Close(member)
	common, err := salvage.Find(ctx, member, set, each)
	if err != nil {
		return fmt.Errorf("salvage: %w", err)
	}
	a.logger.Info("operations that the set has not were read", "after", time.Unix(int64(common.T), 0).UTC(), "primary", primary)
	return nil
}
