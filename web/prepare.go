package main

import (
	"context"
	"log/slog"
	"time"

	"sluice/internal/secret"
	"sluice/web/blog"
)

const (
	firstPreparePause = time.Second
	maxPreparePause   = 15 * time.Second
)

// foundation is what the blog is to have from the start.
func (cfg config) foundation() (blog.Foundation, error) {
	first := blog.Foundation{BlogName: cfg.pageTitle, Tagline: "Every word crossed mutual TLS twice."}
	if cfg.adminPassword == "" {
		return first, nil
	}
	password, err := secret.Read(cfg.adminPassword)
	if err != nil {
		return first, err
	}
	first.Administrator, first.Password = cfg.adminUser, password
	return first, nil
}

// prepare lays the blog's foundation as soon as the database can be reached. The
// pages that need nothing of it are served meanwhile.
func prepare(ctx context.Context, store *blog.Store, first blog.Foundation, logger *slog.Logger) error {
	pause := firstPreparePause
	for ctx.Err() == nil {
		first.Now = time.Now().UTC().Truncate(time.Millisecond)
		err := store.Prepare(ctx, first)
		if err == nil {
			<-ctx.Done()
			break
		}
		if ctx.Err() == nil {
			logger.Warn("the blog is not prepared yet", "err", err, "again_in", pause.String())
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		pause = min(2*pause, maxPreparePause)
	}
	return nil
}
