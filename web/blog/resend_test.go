package blog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"sluice/internal/meshtest"
	"sluice/internal/mongotest"
	"sluice/mesh"
	"sluice/web/blog"
)

// corrected sends the same edit again with other words, as somebody does who was told
// that the outcome is not known.
func corrected(t *testing.T, l *lab) {
	ctx, first := t.Context(), post(40, "corrected")
	if err := l.AddEntry(ctx, first); err != nil {
		t.Fatal(err)
	}
	change := map[string]func(*blog.Entry){
		"headline": func(e *blog.Entry) { e.Title += "!" }, "text": func(e *blog.Entry) { e.Body += "!" }, "address": func(e *blog.Entry) { e.Slug += "-too" },
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, blog.ErrConflict) || blog.OutcomeOf(err) != blog.Refused {
			t.Errorf("%s: %v, want a conflict", what, err)
		}
	}
	for what, correct := range change {
		again := first
		correct(&again)
		refused("added with another "+what, l.AddEntry(ctx, again))
	}
	second := first
	second.Revision, second.Edit, second.Body = 1, "knowingly", "the second text"
	for range 2 {
		if err := l.ChangeEntry(ctx, second); err != nil {
			t.Fatal(err)
		}
	}
	for what, correct := range change {
		again := second
		correct(&again)
		refused("changed with another "+what, l.ChangeEntry(ctx, again))
	}
	if got, err := l.Entry(ctx, first.ID); err != nil || got.Body != "the second text" || got.Slug != first.Slug || got.Revision != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	b := blog.Blog{ID: "corrected", Name: "First", Edit: "e"}
	if err := l.AddBlog(ctx, b); err != nil {
		t.Fatal(err)
	}
	b.Name = "Corrected"
	refused("a blog with another name", l.AddBlog(ctx, b))
	b.Revision, b.Edit = 1, "knowingly"
	for range 2 {
		if err := l.ChangeBlog(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	b.Tagline = "corrected"
	refused("a blog with another tagline", l.ChangeBlog(ctx, b))
	gone := blog.Blog{ID: "corrected-late", Name: "First", Edit: "e"}
	if err := errors.Join(l.AddBlog(ctx, gone), l.DeleteBlog(ctx, gone.ID, time.Now())); err != nil {
		t.Fatal(err)
	}
	gone.Name = "Corrected"
	if err := l.AddBlog(ctx, gone); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("a blog with another name that is deleted since: %v", err)
	}
}

func freedAddress(t *testing.T, l *lab) {
	ctx, now, gone, next := t.Context(), time.Now(), post(45, "freed"), post(46, "freed")
	if err := errors.Join(l.AddEntry(ctx, gone), l.DeleteEntry(ctx, gone.ID, now)); err != nil {
		t.Fatal(err)
	}
	if err := l.AddEntry(ctx, next); err != nil {
		t.Fatalf("the address of an entry that was just deleted: %v", err)
	}
	if err := l.UndeleteEntry(ctx, gone.ID, now); !errors.Is(err, blog.ErrSlugTaken) || blog.OutcomeOf(err) != blog.Refused {
		t.Errorf("had back although another has its address: %v", err)
	}
	next.Revision, next.Edit, next.Slug = 1, "away", "freed-again"
	if err := errors.Join(l.ChangeEntry(ctx, next), l.UndeleteEntry(ctx, gone.ID, now)); err != nil {
		t.Errorf("had back once the address is free: %v", err)
	}
	if got, err := l.EntryBySlug(ctx, blog.MainBlog, "freed"); err != nil || got.ID != gone.ID {
		t.Errorf("%+v, %v", got, err)
	}
}

// olderIndex: the index of an older version, by which deleted entries keep their
// addresses, is replaced at the start.
func olderIndex(t *testing.T, l *lab) {
	indexes := l.system.Database("blog").Collection("entries").Indexes()
	hasSlug := bson.D{{Key: "slug", Value: bson.D{{Key: "$exists", Value: true}}}}
	older := mongo.IndexModel{
		Keys:    bson.D{{Key: "blog", Value: 1}, {Key: "slug", Value: 1}},
		Options: options.Index().SetUnique(true).SetPartialFilterExpression(hasSlug),
	}
	names := func() (names []string) {
		specifications, err := indexes.ListSpecifications(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range specifications {
			names = append(names, s.Name)
		}
		return names
	}
	if name, err := indexes.CreateOne(t.Context(), older); err != nil || !slices.Contains(names(), name) {
		t.Fatalf("%s: %v", name, err)
	}
	for range 2 {
		if err := l.Prepare(t.Context(), blog.Foundation{Now: moment}); err != nil {
			t.Fatal(err)
		}
		if got := names(); slices.Contains(got, "blog_1_slug_1") || !slices.Contains(got, "address") {
			t.Errorf("indexes %v", got)
		}
	}
}

// changedAndLost: the way is denied between the change of a password and the login that
// follows it.
func changedAndLost(t *testing.T, l *lab) {
	accounts(t, l, "unlucky")
	var updated atomic.Int32
	closing := l.open(blog.Config{PasswordCost: 4, Commands: &event.CommandMonitor{
		Started: func(context.Context, *event.CommandStartedEvent) {},
		Failed:  func(context.Context, *event.CommandFailedEvent) {},
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			if e.CommandName == "update" && updated.Add(1) == 2 { // the first has written the attempt down
				l.Policy.Set(meshtest.Deny("web", "mongo-primary"))
			}
		},
	}})
	change := blog.PasswordChange{Name: "unlucky", Old: "given to unlucky", New: "chosen by unlucky", Address: "192.0.2.79", Now: time.Now()}
	secret, err := closing.ChangePassword(t.Context(), change)
	l.Policy.Set(allow)
	var changed *blog.NoLoginError
	if !errors.As(err, &changed) || secret != "" || blog.OutcomeOf(err) != blog.Acked {
		t.Errorf("%v, outcome %v; want a password that is changed and no login", err, blog.OutcomeOf(err))
	}
	if _, err := l.loginAs("unlucky", change.Old); !errors.Is(err, blog.ErrLogin) {
		t.Errorf("the old password: %v", err)
	}
	if _, err := l.loginAs("unlucky", change.New); err != nil {
		t.Errorf("the new password: %v", err)
	}
}

// lostBeforeTheChange: the way is denied while a change of a password only reads.
func lostBeforeTheChange(t *testing.T, l *lab) {
	accounts(t, l, "early")
	var closed atomic.Bool
	closing := l.open(blog.Config{PasswordCost: 4, Commands: &event.CommandMonitor{
		Started: func(_ context.Context, e *event.CommandStartedEvent) {
			if e.CommandName != "find" || !closed.CompareAndSwap(false, true) {
				return
			}
			l.Policy.Set(meshtest.Deny("web", "mongo-primary"))
			mongotest.Wait(t, 10*time.Second, "the way knows that it is denied", func(context.Context) error {
				if err := l.upstream.Err(); !errors.Is(err, mesh.ErrDenied) {
					return fmt.Errorf("it says %w", err)
				}
				return nil
			})
		},
		Failed:    func(context.Context, *event.CommandFailedEvent) {},
		Succeeded: func(context.Context, *event.CommandSucceededEvent) {},
	}})
	change := blog.PasswordChange{Name: "early", Old: "given to early", New: "chosen by early", Address: "192.0.2.80", Now: time.Now()}
	_, err := closing.ChangePassword(t.Context(), change)
	l.Policy.Set(allow)
	if !errors.Is(err, mesh.ErrDenied) || blog.OutcomeOf(err) != blog.Refused {
		t.Errorf("%v, outcome %v; want a denial, and a password that is known to be as it was", err, blog.OutcomeOf(err))
	}
	if _, err := l.loginAs("early", change.Old); err != nil {
		t.Errorf("the old password: %v", err)
	}
}
