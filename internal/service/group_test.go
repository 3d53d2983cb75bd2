package service_test

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/service"
)

func TestMain(m *testing.M) {
	// The runtime's signal loop starts once per process; start it outside any
	// synctest bubble, which would wait for it for ever.
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	signal.Stop(c)
	goleak.VerifyTestMain(m)
}

func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestFirstReturnStopsAllAndIsTheError(t *testing.T) {
	boom := errors.New("boom")
	var g service.Group
	g.Add("waiter", untilDone)
	g.Add("failing", func(context.Context) error { return boom })
	err := g.Run(t.Context())
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "run failing: boom") {
		t.Fatalf("error = %v, want the actor's name and its error", err)
	}
}

func TestReturnWithoutErrorIsNoCleanStop(t *testing.T) {
	var g service.Group
	g.Add("waiter", untilDone)
	g.Add("short", func(context.Context) error { return nil })
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "short") {
		t.Fatalf("error = %v, want one that names the actor that returned", err)
	}
}

func TestEndOfContextIsACleanStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var g service.Group
	g.Add("a", untilDone)
	g.Add("b", func(ctx context.Context) error { <-ctx.Done(); return errors.New("late failure") })
	cancel()
	if err := g.Run(ctx); err != nil {
		t.Fatalf("error = %v, want none", err)
	}
}

func TestSIGTERMIsACleanStop(t *testing.T) {
	var g service.Group
	running := make(chan struct{})
	g.Add("a", func(ctx context.Context) error { close(running); return untilDone(ctx) })
	go func() {
		<-running
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}()
	if err := g.Run(t.Context()); err != nil {
		t.Fatalf("error = %v, want none", err)
	}
}

func TestActorsStopInReverseOrderEachAfterTheOneBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var stopped []string
		actor := func(name string, takes time.Duration) func(context.Context) error {
			return func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(takes) // virtual
				mu.Lock()
				defer mu.Unlock()
				stopped = append(stopped, name)
				return nil
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var g service.Group
		g.Add("credentials", actor("credentials", 0))
		g.Add("server", actor("server", time.Second))
		g.Add("registration", actor("registration", time.Second))
		if err := g.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if want := []string{"registration", "server", "credentials"}; !slices.Equal(stopped, want) {
			t.Fatalf("stopped %v, want %v", stopped, want)
		}
	})
}

func TestSlowActorCostsTheOthersTheirOrderNotTheirStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var stoppedAt time.Time
		var g service.Group
		g.Add("first", func(ctx context.Context) error { <-ctx.Done(); stoppedAt = time.Now(); return nil })
		g.Add("slow", func(ctx context.Context) error { <-ctx.Done(); time.Sleep(4 * time.Second); return nil })
		start := time.Now()
		if err := g.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if got := stoppedAt.Sub(start); got != service.DefaultGrace {
			t.Fatalf("first was stopped after %v, want %v", got, service.DefaultGrace)
		}
	})
}

func TestBoundNamesWhoHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		release := make(chan struct{})
		var g service.Group
		g.Add("fine", untilDone)
		g.Add("stuck-watch", func(context.Context) error { <-release; return nil })
		start := time.Now()
		err := g.Run(ctx)
		if !errors.Is(err, service.ErrHung) || !strings.Contains(err.Error(), "stuck-watch") || strings.Contains(err.Error(), "fine") {
			t.Errorf("error = %v, want ErrHung that names stuck-watch alone", err)
		}
		if got := time.Since(start); got != service.DefaultBound {
			t.Errorf("gave up after %v, want %v", got, service.DefaultBound)
		}
		close(release)
	})
}
