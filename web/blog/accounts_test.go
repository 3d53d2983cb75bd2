package blog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/web/blog"
)

// raceForABlog adds and moves entries to a blog while it is deleted, again and again.
func raceForABlog(t *testing.T, l *lab) {
	ctx := t.Context()
	const writers = 4
	added, refused := 0, 0
	for round := range 8 {
		id := fmt.Sprint("race-", round)
		if err := l.AddBlog(ctx, blog.Blog{ID: id, Name: id, Edit: "e"}); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		for w := range writers {
			all.Go(func() {
				for n := range 4 {
					e := post(500_000+round*1_000+w*10+n, fmt.Sprint("race-", round, "-", w, "-", n))
					if e.Blog = id; n == 3 { // written elsewhere, and moved
						e.Blog = blog.MainBlog
					}
					err := l.AddEntry(ctx, e)
					if err == nil && n == 3 {
						e.Blog, e.Revision, e.Edit = id, 1, e.Edit+" moved"
						err = l.ChangeEntry(ctx, e)
					}
					mu.Lock()
					switch {
					case err == nil:
						added++
					case errors.Is(err, blog.ErrNoBlog):
						refused++
					default:
						t.Errorf("write: %v", err)
					}
					mu.Unlock()
				}
			})
		}
		all.Go(func() {
			if err := l.DeleteBlog(ctx, id, time.Now()); err != nil {
				t.Errorf("delete: %v", err)
			}
		})
		all.Wait()
		if page, err := l.Entries(ctx, blog.Query{Blog: id, Limit: 20}); err != nil || len(page.Entries) != 0 {
			t.Fatalf("in a deleted blog: %d entries, %v", len(page.Entries), err)
		}
	}
	t.Logf("%d written before the deletion, %d refused", added, refused)
}

// accounts are administrators who have chosen their passwords.
func accounts(t *testing.T, l *lab, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := l.AddAdministrator(t.Context(), "admin", name, "given to "+name, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
}

func (l *lab) loginAs(name, password string) (string, error) {
	return l.Login(l.t.Context(), blog.Attempt{Name: name, Password: password, Address: "address of " + name, Now: time.Now()})
}

func eachOther(t *testing.T, l *lab) {
	ctx := t.Context()
	for round := range 8 {
		pair := []string{fmt.Sprint("left-", round), fmt.Sprint("right-", round)}
		accounts(t, l, pair...)
		if err := l.AddAdministrator(ctx, "admin", pair[0], "x", time.Now()); !errors.Is(err, blog.ErrNameTaken) {
			t.Errorf("added again: %v", err)
		}
		if err := l.DisableAdministrator(ctx, pair[0], pair[0], time.Now()); !errors.Is(err, blog.ErrOneself) {
			t.Errorf("oneself: %v", err)
		}
		var both sync.WaitGroup
		errs := make([]error, 2)
		for i := range pair {
			both.Go(func() {
				change := l.DisableAdministrator
				if round%2 == 1 {
					change = l.DeleteAdministrator
				}
				errs[i] = change(ctx, pair[i], pair[1-i], time.Now())
			})
		}
		both.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), blog.ErrNotActive) {
			t.Errorf("each other: %v", errs)
		}
		active := 0
		for _, name := range pair {
			if _, err := l.loginAs(name, "given to "+name); err == nil {
				active++
			}
		}
		if active != 1 {
			t.Fatalf("%d of two are left", active)
		}
	}
}

func newPassword(t *testing.T, l *lab) {
	ctx, now := t.Context(), time.Now()
	accounts(t, l, "changer")
	var secrets []string
	for range 2 {
		secret, err := l.loginAs("changer", "given to changer")
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret)
	}
	if session, err := l.Session(ctx, secrets[0], now); err != nil || !session.Temporary {
		t.Errorf("with the password that was given: %+v, %v", session, err)
	}
	change := blog.PasswordChange{Name: "changer", Old: "wrong", New: "chosen by changer", Address: "192.0.2.78", Now: now}
	if _, err := l.ChangePassword(ctx, change); !errors.Is(err, blog.ErrLogin) {
		t.Errorf("with a wrong password: %v", err)
	}
	change.Old = "given to changer"
	long := change
	if long.New = strings.Repeat("x", blog.MaxPassword+1); true {
		if _, err := l.ChangePassword(ctx, long); err == nil {
			t.Error("a password that bcrypt would cut was taken")
		}
	}
	secret, err := l.ChangePassword(ctx, change)
	if err != nil {
		t.Fatal(err)
	}
	if session, err := l.Session(ctx, secret, now); err != nil || session.Temporary {
		t.Errorf("the new session: %+v, %v", session, err)
	}
	for _, old := range secrets {
		if _, err := l.Session(ctx, old, now); !errors.Is(err, blog.ErrNotFound) {
			t.Errorf("an old session: %v", err)
		}
	}
	if _, err := l.loginAs("changer", "given to changer"); !errors.Is(err, blog.ErrLogin) {
		t.Errorf("the old password: %v", err)
	}
	// A login that was under way: its session is stored after the change.
	users := l.system.Database("blog").Collection("users")
	if _, err := users.UpdateByID(ctx, "changer", bson.D{{Key: "$inc", Value: bson.D{{Key: "generation", Value: 1}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Session(ctx, secret, now); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("a session of an earlier generation: %v", err)
	}
}

func deletedAccount(t *testing.T, l *lab) {
	ctx := t.Context()
	accounts(t, l, "leaver", "keeper")
	secret, err := l.loginAs("leaver", "given to leaver")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.DeleteAdministrator(ctx, "keeper", "leaver", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	again := blog.Foundation{BlogName: "Notes", Administrator: "leaver", Password: "from a file", Now: time.Now()}
	if err := l.Prepare(ctx, again); err != nil {
		t.Fatal(err)
	}
	if _, err := l.loginAs("leaver", "from a file"); !errors.Is(err, blog.ErrLogin) {
		t.Errorf("after a process has started again: %v", err)
	}
	if got, err := l.Administrators(ctx); err != nil || slices.ContainsFunc(got, func(a blog.Administrator) bool { return a.Name == "leaver" }) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := l.EnableAdministrator(ctx, "keeper", "leaver"); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("enabled: %v", err)
	}
	if err := l.AddAdministrator(ctx, "leaver", "friend", "x", time.Now()); !errors.Is(err, blog.ErrNotActive) {
		t.Errorf("by somebody who is deleted: %v", err)
	}
	accounts(t, l, "leaver")
	if _, err := l.Session(ctx, secret, time.Now()); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("a session of the account before: %v", err)
	}
	if err := l.DisableAdministrator(ctx, "keeper", "leaver", time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.loginAs("leaver", "given to leaver"); !errors.Is(err, blog.ErrLogin) {
		t.Errorf("while disabled: %v", err)
	}
	if err := l.EnableAdministrator(ctx, "keeper", "leaver"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.loginAs("leaver", "given to leaver"); err != nil {
		t.Errorf("enabled again: %v", err)
	}
}
