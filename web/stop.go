package main

import (
	"context"
	"time"

	"sluice/consul"
	"sluice/internal/service"
)

// afterLeaving is how long requests are taken as ever once the registration is gone: the
// gateways hear of it some milliseconds later, and what they send until then would meet
// a connection that is being closed. A POST is lost by that.
const afterLeaving = 300 * time.Millisecond

// publish adds what a stop ends before the requests, from the last to the first: the
// registration, the streams of the topology page, and the wait of requests that are
// held because there is nobody to send them to. pages follows the ways until then.
func (e *edge) publish(group *service.Group, pages func(context.Context) error, registrar *consul.Registrar, as consul.Registration) {
	group.Add("held requests", func(ctx context.Context) error {
		<-ctx.Done()
		for _, w := range e.ways {
			w.store.EndHolds()
		}
		return nil
	})
	group.Add("topology page", pages)
	registrar.Set(as)
	group.Add("registration", func(ctx context.Context) error {
		err := registrar.Run(ctx)
		timer := time.NewTimer(afterLeaving)
		defer timer.Stop()
		<-timer.C
		return err
	})
}
