package blog_test

import (
	"context"
	"errors"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"sluice/web/blog"
)

// openWay leads somewhere.
type openWay struct{}

func (openWay) Err() error               { return nil }
func (openWay) Changed() <-chan struct{} { return nil }

func TestARefusalAfterAnAttemptWithoutAnswerLeavesTheOutcomeUnknown(t *testing.T) {
	store, err := blog.Open(blog.Config{Service: "mongo-primary", Address: "127.0.0.1:1", Way: openWay{}})
	if err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	t.Cleanup(func() { _ = store.Run(stopped) })
	unanswered, refused := errors.New("connection reset"), mongo.CommandError{Code: 13, Message: "not authorized"}
	moved := mongo.CommandError{Code: 10107, Message: "not primary"}
	for name, test := range map[string]struct {
		answers []error
		want    blog.Outcome
	}{
		"no answer, then refused":             {[]error{unanswered, refused}, blog.Unknown},
		"no answer, then moved, then refused": {[]error{unanswered, moved, refused}, blog.Unknown},
		"refused at once":                     {[]error{refused}, blog.Refused},
		"no answer, then found taken":         {[]error{unanswered, blog.ErrSlugTaken}, blog.Refused},
		"no answer, then done":                {[]error{unanswered, nil}, blog.Acked},
	} {
		err := store.Repeat(t.Context(), func(context.Context) error {
			next := test.answers[0]
			test.answers = test.answers[1:]
			return next
		})
		if got := blog.OutcomeOf(err); got != test.want || len(test.answers) > 0 {
			t.Errorf("%s: %v (%v), %d answers not asked for; want %v", name, got, err, len(test.answers), test.want)
		}
		if test.want != blog.Acked && !errors.Is(err, blog.ErrSlugTaken) && !errors.As(err, new(mongo.CommandError)) {
			t.Errorf("%s: %v does not say what the server said", name, err)
		}
	}
}
