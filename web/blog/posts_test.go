package blog_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"sluice/internal/meshtest"
	"sluice/mesh"
	"sluice/web/blog"
)

var moment = time.UnixMilli(1_700_000_000_000).UTC()

// prepared is a lab whose store is prepared, twice at once as by two processes.
func prepared(t *testing.T) *lab {
	t.Helper()
	l := start(t, false)
	l.Store = l.open(blog.Config{PasswordCost: 4}) // quick
	foundation := blog.Foundation{BlogName: "Notes", Tagline: "of tests", Administrator: "admin", Password: "right", Now: moment}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if err := l.Prepare(t.Context(), foundation); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	foundation.BlogName, foundation.Password = "Other", "other"
	if err := l.Prepare(t.Context(), foundation); err != nil {
		t.Fatalf("again: %v", err)
	}
	return l
}

func post(n int, slug string) blog.Entry {
	e := entry(n, slug)
	e.Blog, e.Slug, e.Author, e.Updated, e.Edit = blog.MainBlog, slug, "admin", e.Created, fmt.Sprint("edit ", n)
	return e
}

// One mongod serves all of these, because its start is what takes time.
func TestBlogAgainstARealMongod(t *testing.T) {
	l := prepared(t)
	for name, test := range map[string]func(*testing.T, *lab){
		"preparing again changes nothing":                              preparedOnce,
		"an entry is stored once and its slug is its own":              slugs,
		"a change over a change is a conflict and its repetition none": conflicts,
		"what is deleted comes back within a minute and not later":     undo,
		"a blog is deleted and comes back with its entries":            deletedBlogs,
		"an entry that is added meanwhile is in no deleted blog":       raceForABlog,
		"two administrators who disable each other leave one":          eachOther,
		"a new password ends every other session":                      newPassword,
		"an account that is deleted is not made again":                 deletedAccount,
		"a search takes signs as signs and pages do not overlap":       search,
		"a page far back costs the database as much as the newest":     deepPages,
		"a login needs the right password and its session ends":        logins,
		"failed logins are counted even when they come at once":        throttle,
		"fifty failed logins close a name to every address":            throttleName,
		"an edit that is sent again with other words is a conflict":    corrected,
		"the address of a deleted entry is free":                       freedAddress,
		"the index of an older version is replaced":                    olderIndex,
		"a password that is changed is never said to be unchanged":     changedAndLost,
		"a password that was not written to is known to be unchanged":  lostBeforeTheChange,
	} {
		t.Run(name, func(t *testing.T) { test(t, l) })
	}
	if err := l.AddEntry(t.Context(), post(90, "before the deny")); err != nil {
		t.Fatal(err)
	}
	l.Policy.Set(meshtest.Deny("web", "mongo-primary"))
	if err := l.AddEntry(t.Context(), post(91, "denied")); !errors.Is(err, mesh.ErrDenied) {
		t.Errorf("denied: %v", err)
	}
}

func preparedOnce(t *testing.T, l *lab) {
	if got, err := l.Blog(t.Context(), blog.MainBlog); err != nil || got.Name != "Notes" || got.Revision != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	old := bson.D{{Key: "_id", Value: "old"}, {Key: "title", Value: "of an older version"}, {Key: "body", Value: "x"}, {Key: "created", Value: moment}}
	entries := l.system.Database("blog").Collection("entries")
	if _, err := entries.InsertOne(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = entries.DeleteOne(context.Background(), bson.D{{Key: "_id", Value: "old"}}) }()
	if err := l.Prepare(t.Context(), blog.Foundation{Now: moment}); err != nil {
		t.Fatal(err)
	}
	if got, err := l.EntryBySlug(t.Context(), blog.MainBlog, "old"); err != nil || got.Title != "of an older version" || got.Revision != 1 {
		t.Errorf("adopted: %+v, %v", got, err)
	}
}

func slugs(t *testing.T, l *lab) {
	ctx, first := t.Context(), post(1, "first")
	for range 2 {
		if err := l.AddEntry(ctx, first); err != nil {
			t.Fatal(err)
		}
	}
	other := post(2, "first")
	if err := l.AddEntry(ctx, other); !errors.Is(err, blog.ErrSlugTaken) || blog.OutcomeOf(err) != blog.Refused {
		t.Errorf("the slug of another: %v", err)
	}
	other = post(1, "second")
	other.Edit = "another edit"
	if err := l.AddEntry(ctx, other); !errors.Is(err, blog.ErrConflict) || blog.OutcomeOf(err) != blog.Refused {
		t.Errorf("added again after somebody has changed it: %v", err)
	}
	other = post(2, "first")
	other.Blog = "elsewhere"
	if err := l.AddEntry(ctx, other); !errors.Is(err, blog.ErrNoBlog) {
		t.Errorf("an entry of no blog: %v", err)
	}
	if err := l.AddBlog(ctx, blog.Blog{ID: "elsewhere", Name: "Elsewhere", Edit: "e"}); err != nil {
		t.Fatal(err)
	}
	if err := l.AddEntry(ctx, other); err != nil {
		t.Errorf("the same slug in another blog: %v", err)
	}
	if got, err := l.EntryBySlug(ctx, blog.MainBlog, "first"); err != nil || got.ID != first.ID || got.Revision != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func conflicts(t *testing.T, l *lab) {
	ctx, mine := t.Context(), post(10, "conflict")
	if err := l.AddEntry(ctx, mine); err != nil {
		t.Fatal(err)
	}
	mine.Revision, mine.Edit, mine.Title = 1, "mine", "as I want it"
	for range 2 {
		if err := l.ChangeEntry(ctx, mine); err != nil {
			t.Fatalf("my change: %v", err)
		}
	}
	theirs := mine
	theirs.Edit, theirs.Title, theirs.Author, theirs.Editor = "theirs", "as they want it", "bea", "bea"
	if err := l.ChangeEntry(ctx, theirs); !errors.Is(err, blog.ErrConflict) || blog.OutcomeOf(err) != blog.Refused {
		t.Errorf("a change over my change: %v", err)
	}
	if got, err := l.Entry(ctx, mine.ID); err != nil || got.Title != "as I want it" || got.Revision != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	theirs.Revision = 2
	if err := l.ChangeEntry(ctx, theirs); err != nil {
		t.Errorf("knowingly: %v", err)
	}
	if got, err := l.Entry(ctx, mine.ID); err != nil || got.Author != "admin" || got.Editor != "bea" {
		t.Errorf("by %q, changed by %q, %v", got.Author, got.Editor, err)
	}
	if err := l.ChangeEntry(ctx, post(999, "none")); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
}

func undo(t *testing.T, l *lab) {
	ctx, gone := t.Context(), post(20, "gone")
	if err := l.AddEntry(ctx, gone); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for range 2 {
		if err := l.DeleteEntry(ctx, gone.ID, now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.EntryBySlug(ctx, blog.MainBlog, "gone"); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	got, err := l.Deleted(ctx, now) // the other tests delete, too
	if err != nil || !slices.ContainsFunc(got, func(e blog.Entry) bool { return e.ID == gone.ID }) {
		t.Errorf("to be had back: %+v, %v", got, err)
	}
	if err := l.UndeleteEntry(ctx, gone.ID, now.Add(blog.UndoFor)); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("a minute later: %v", err)
	}
	for range 2 {
		if err := l.UndeleteEntry(ctx, gone.ID, now.Add(blog.UndoFor-time.Second)); err != nil {
			t.Errorf("in time: %v", err)
		}
	}
	if got, err := l.EntryBySlug(ctx, blog.MainBlog, "gone"); err != nil || got.Title != "gone" {
		t.Errorf("%+v, %v", got, err)
	}
	gone.Revision, gone.Edit = 1, "by whoever had it open"
	if err := l.ChangeEntry(ctx, gone); !errors.Is(err, blog.ErrConflict) {
		t.Errorf("a form from before: %v", err)
	}
}

func deletedBlogs(t *testing.T, l *lab) {
	ctx, now := t.Context(), time.Now()
	b := blog.Blog{ID: "side", Name: "Side", Created: now, Updated: now, Edit: "e"}
	for range 2 {
		if err := l.AddBlog(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	b.Edit = "another"
	if err := l.AddBlog(ctx, b); !errors.Is(err, blog.ErrSlugTaken) {
		t.Errorf("the same address: %v", err)
	}
	inside, before := post(30, "inside"), post(31, "deleted-before")
	inside.Blog, before.Blog = "side", "side"
	if err := errors.Join(l.AddEntry(ctx, inside), l.AddEntry(ctx, before), l.DeleteEntry(ctx, before.ID, now)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as when nobody knows whether the first was done
		if err := l.DeleteBlog(ctx, "side", now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Entry(ctx, inside.ID); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("its entry: %v", err)
	}
	for _, id := range []string{inside.ID, before.ID} {
		if err := l.UndeleteEntry(ctx, id, now); !errors.Is(err, blog.ErrNoBlog) {
			t.Errorf("an entry alone: %v", err)
		}
	}
	if err := l.AddEntry(ctx, func() blog.Entry { e := post(32, "late"); e.Blog = "side"; return e }()); !errors.Is(err, blog.ErrNoBlog) {
		t.Errorf("an entry after the deletion: %v", err)
	}
	moved := post(33, "moved")
	if err := l.AddEntry(ctx, moved); err != nil {
		t.Fatal(err)
	}
	moved.Blog, moved.Revision, moved.Edit = "side", 1, "move"
	if err := l.ChangeEntry(ctx, moved); !errors.Is(err, blog.ErrNoBlog) {
		t.Errorf("an entry that is moved there: %v", err)
	}
	if got, err := l.DeletedBlogs(ctx, now); err != nil || !slices.ContainsFunc(got, func(b blog.Blog) bool { return b.ID == "side" && b.Entries == 1 }) {
		t.Errorf("%+v, %v", got, err)
	}
	if gone, err := l.Deleted(ctx, now); err != nil || slices.ContainsFunc(gone, func(e blog.Entry) bool { return e.ID == inside.ID }) {
		t.Errorf("deleted entries: %+v, %v", gone, err)
	}
	if err := l.UndeleteBlog(ctx, "side", now); err != nil {
		t.Error(err)
	}
	if page, err := l.Entries(ctx, blog.Query{Blog: "side", Limit: 5}); err != nil || len(page.Entries) != 1 || page.Entries[0].ID != inside.ID {
		t.Errorf("had back: %+v, %v", page, err)
	}
	b.Revision, b.Name = 1, "Late"
	if err := l.ChangeBlog(ctx, b); !errors.Is(err, blog.ErrConflict) {
		t.Errorf("a form from before: %v", err)
	}
	if err := l.DeleteBlog(ctx, "none", now); err != nil {
		t.Errorf("what is not there: %v", err)
	}
}

func search(t *testing.T, l *lab) {
	many := make([]any, 10_000)
	for i := range many {
		e := post(100_000+i, fmt.Sprintf("entry-%d", i))
		e.Blog, e.Title = "many", fmt.Sprintf("Entry %d.", i)
		if i == 7 {
			e.Title = `100% (a+b)* $gt {"$gt":""}`
		}
		many[i] = e
	}
	patient, cancel := context.WithTimeout(t.Context(), time.Minute) // a busy machine takes long for so many
	defer cancel()
	if _, err := l.system.Database("blog").Collection("entries").InsertMany(patient, many); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for skip := int64(0); skip < 10_000; skip += 1_000 {
		page, err := l.Entries(t.Context(), blog.Query{Blog: "many", Skip: skip, Limit: 1_000})
		if err != nil || len(page.Entries) != 1_000 || page.More != (skip < 9_000) {
			t.Fatalf("from %d: %d entries, more %v, %v", skip, len(page.Entries), page.More, err)
		}
		for _, e := range page.Entries {
			seen[e.ID] = true
		}
	}
	if len(seen) != 10_000 {
		t.Errorf("%d different entries of 10,000", len(seen))
	}
	for text, want := range map[string]int{
		"ENTRY 99.": 1, "entry": 20, ".*": 0, `{"$gt":""}`: 1, "(A+B)*": 1, "[": 0, `\`: 0, strings.Repeat("(a*)*", 20): 0,
	} {
		started := time.Now()
		page, err := l.Entries(t.Context(), blog.Query{Blog: "many", Headline: text, Limit: 20})
		if err != nil || len(page.Entries) != want {
			t.Errorf("%q: %d entries, %v; want %d", text, len(page.Entries), err, want)
		}
		t.Logf("%q took %v", text, time.Since(started).Round(time.Millisecond))
	}
}

func logins(t *testing.T, l *lab) {
	ctx, now := t.Context(), time.Now()
	for name, attempt := range map[string]blog.Attempt{
		"wrong password":  {Name: "admin", Password: "wrong"},
		"no such user":    {Name: "root", Password: "right"},
		"an operator":     {Name: `{"$gt":""}`, Password: `{"$gt":""}`},
		"a later Prepare": {Name: "admin", Password: "other"},
		"too long":        {Name: "admin", Password: "right" + strings.Repeat("x", 100)},
	} {
		attempt.Address, attempt.Now = "192.0.2.1", now
		if _, err := l.Login(ctx, attempt); !errors.Is(err, blog.ErrLogin) {
			t.Errorf("%s: %v", name, err)
		}
	}
	secret, err := l.Login(ctx, blog.Attempt{Name: "admin", Password: "right", Address: "192.0.2.1", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if session, err := l.Session(ctx, secret, now); err != nil || session.User != "admin" || session.Key == secret {
		t.Errorf("%+v, %v", session, err)
	}
	if _, err := l.Session(ctx, secret, now.Add(blog.SessionFor)); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("expired: %v", err)
	}
	if err := l.Logout(ctx, secret); err != nil {
		t.Error(err)
	}
	if _, err := l.Session(ctx, secret, now); !errors.Is(err, blog.ErrNotFound) {
		t.Errorf("after the logout: %v", err)
	}
}

func throttle(t *testing.T, l *lab) {
	now := time.Now()
	attempt := blog.Attempt{Name: "nobody", Password: "x", Address: "192.0.2.9", Now: now}
	// Written down as by attempts that failed: checking each takes long on purpose.
	attempts := l.system.Database("blog").Collection("login_attempts")
	for i := range blog.MaxAttempts - 1 {
		if err := insertAttempt(t, attempts, fmt.Sprint("seed ", i), attempt); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	count := map[error]int{}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			_, err := l.Login(t.Context(), attempt)
			mu.Lock()
			defer mu.Unlock()
			count[err]++
		})
	}
	all.Wait()
	if count[blog.ErrLogin] > 1 || count[blog.ErrThrottled] < 3 || count[blog.ErrLogin]+count[blog.ErrThrottled] != 4 {
		t.Errorf("four at once where one is left: %v", count)
	}
	attempt.Address, attempt.Name, attempt.Password = "192.0.2.10", "admin", "right"
	if _, err := l.Login(t.Context(), attempt); err != nil {
		t.Errorf("from another address: %v", err)
	}
	attempt.Address, attempt.Now = "192.0.2.9", now.Add(blog.AttemptsFor+time.Second)
	if _, err := l.Login(t.Context(), attempt); err != nil {
		t.Errorf("later: %v", err)
	}
}

// throttleName: the attempts come from so many addresses that each is within its own
// limit.
func throttleName(t *testing.T, l *lab) {
	now := time.Now()
	if err := l.AddAdministrator(t.Context(), "admin", "popular", "right", now); err != nil {
		t.Fatal(err)
	}
	attempt := blog.Attempt{Name: "popular", Password: "wrong", Address: "192.0.2.99", Now: now}
	attempts := l.system.Database("blog").Collection("login_attempts")
	for i := range blog.MaxAttemptsName - 1 {
		seed := attempt
		seed.Address = fmt.Sprintf("198.51.100.%d", i)
		if err := insertAttempt(t, attempts, fmt.Sprint("seed of a name ", i), seed); err != nil {
			t.Fatal(err)
		}
	}
	if blog.MaxAttemptsName != 50 {
		t.Errorf("the limit is %d, and the page of operations says 50", blog.MaxAttemptsName)
	}
	if _, err := l.Login(t.Context(), attempt); !errors.Is(err, blog.ErrLogin) {
		t.Errorf("the 50th: %v", err)
	}
	attempt.Address, attempt.Password = "192.0.2.100", "right"
	if _, err := l.Login(t.Context(), attempt); !errors.Is(err, blog.ErrThrottled) {
		t.Errorf("the 51st, with the right password and from a new address: %v", err)
	}
	other := attempt
	other.Name = "somebody else"
	if _, err := l.Login(t.Context(), other); !errors.Is(err, blog.ErrLogin) {
		t.Errorf("another name from there: %v", err)
	}
	attempt.Now = now.Add(blog.AttemptsFor + time.Second)
	if _, err := l.Login(t.Context(), attempt); err != nil {
		t.Errorf("a quarter of an hour later: %v", err)
	}
}

func insertAttempt(t *testing.T, attempts *mongo.Collection, id string, a blog.Attempt) error {
	_, err := attempts.InsertOne(t.Context(), bson.D{{Key: "_id", Value: id}, {Key: "name", Value: a.Name}, {Key: "address", Value: a.Address}, {Key: "at", Value: a.Now}})
	return err
}

func TestSlugIsMadeOfWhatCanBeInAnAddress(t *testing.T) {
	for headline, want := range map[string]string{
		"Hello, World!": "hello-world", "Über Größe": "ueber-groesse", "  --a--  ": "a", "日本": "", "../../etc/passwd": "etc-passwd",
		"don't": "dont", strings.Repeat("word ", 40): strings.TrimSuffix(strings.Repeat("word-", 16), "-"), strings.Repeat("x", 200): "",
	} {
		if got := blog.Slug(headline); got != want || got != "" && !blog.ValidSlug(got) {
			t.Errorf("%q: %q, want %q", headline, got, want)
		}
	}
	for _, bad := range []string{"", "-a", "a-", "a--b", "A", "a b", "ä", "..", "a/b", strings.Repeat("a", 81)} {
		if blog.ValidSlug(bad) {
			t.Errorf("%q is taken for a slug", bad)
		}
	}
}

func TestTheOutcomesOfAWriteAreToldApart(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want blog.Outcome
	}{
		{"done", nil, blog.Acked},
		{"conflict", fmt.Errorf("x: %w", blog.ErrConflict), blog.Refused},
		{"denied before it began", denied, blog.Refused},
		{"timed out", &blog.Error{Driver: context.DeadlineExceeded}, blog.Unknown},
		{"cut, and denied since", &blog.Error{Way: denied, Driver: io.EOF}, blog.Unknown},
		{"refused, and denied since", &blog.Error{Way: denied, Driver: mongo.CommandError{Code: 13}}, blog.Refused},
		{"not by a majority", mongo.WriteException{WriteConcernError: &mongo.WriteConcernError{Code: 64}}, blog.Unknown},
		{"refused by the server", mongo.CommandError{Code: 13}, blog.Refused},
		{"role moved", mongo.CommandError{Code: 10107}, blog.Unknown},
	} {
		if got := blog.OutcomeOf(test.err); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

var denied = &mesh.DeniedError{}
