package consul

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/consultest"
)

const lockRules = `key_prefix "lab/" { policy = "write" } session_prefix "" { policy = "write" }`

func TestALockIsHeldByOneAtATime(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	file := agent.PolicyFile(lockRules)
	var inside, turns atomic.Int32
	var group sync.WaitGroup
	start := time.Now()
	for range 4 {
		client := open(t, agent, file)
		group.Go(func() {
			for range 3 {
				err := client.WithLock(within(t, 30*time.Second), "lab/init", func(ctx context.Context) error {
					if inside.Add(1) != 1 {
						t.Error("two hold the lock")
					}
					defer inside.Add(-1)
					turns.Add(1)
					<-time.After(20 * time.Millisecond)
					return ctx.Err()
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d turns in %s", turns.Load(), time.Since(start))
	if turns.Load() != 12 {
		t.Errorf("%d turns, want 12", turns.Load())
	}
	var sessions []struct{ ID string }
	agent.Call(http.MethodGet, "/v1/session/list", nil, &sessions)
	if len(sessions) != 0 {
		t.Errorf("%d sessions are left", len(sessions))
	}
}

func TestALostLockEndsTheWork(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	client := open(t, agent, agent.PolicyFile(lockRules))
	for name, lose := range map[string]func(){
		"the session is destroyed": func() {
			var sessions []struct{ ID string }
			agent.Call(http.MethodGet, "/v1/session/list", nil, &sessions)
			agent.Call(http.MethodPut, "/v1/session/destroy/"+sessions[0].ID, nil, nil)
		},
		"the key is deleted": func() { agent.Call(http.MethodDelete, "/v1/kv/lab/init", nil, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			err := client.WithLock(within(t, 10*time.Second), "lab/init", func(ctx context.Context) error {
				lose()
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Second):
					t.Error("not told within 5 s")
				}
				return nil
			})
			if !errors.Is(err, ErrLockLost) {
				t.Errorf("got %v, want ErrLockLost", err)
			}
		})
	}
}

func TestAHolderThatCannotRenewGivesUpBeforeConsulDoes(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	client := open(t, agent, agent.PolicyFile(lockRules))
	err := client.WithLock(within(t, 60*time.Second), "lab/init", func(ctx context.Context) error {
		agent.Stop()
		defer agent.Continue()
		start := time.Now()
		select {
		case <-ctx.Done():
		case <-time.After(2 * lockTTL):
		}
		if took := time.Since(start); took > lockTTL {
			t.Errorf("gave up after %s, Consul may give the lock away after %s", took, lockTTL)
		}
		return nil
	})
	if !errors.Is(err, ErrLockLost) {
		t.Errorf("got %v, want ErrLockLost", err)
	}
}

func TestAKeyIsReadWrittenAndFollowed(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	client := open(t, agent, agent.PolicyFile(lockRules))
	watch := client.KVWatch("lab/title")
	running(t, watch.Run)
	if _, ok, err := client.KVGet(t.Context(), "lab/title"); ok || err != nil {
		t.Errorf("before it is written: %t, %v", ok, err)
	}
	if err := client.KVPut(t.Context(), "lab/title", []byte("one")); err != nil {
		t.Fatal(err)
	}
	if value, ok, err := client.KVGet(t.Context(), "lab/title"); string(value) != "one" || !ok || err != nil {
		t.Errorf("read back %q, %t, %v", value, ok, err)
	}
	consultest.Await(t, 5*time.Second, "the watch has it", func() error {
		if got := string(watch.State().Value); got != "one" {
			return unequal("the value", got, "one")
		}
		return nil
	})
	tree := client.KVTreeWatch("lab")
	running(t, tree.Run)
	for _, key := range []string{"lab/b/2", "lab/a", "labour"} {
		_ = client.KVPut(t.Context(), key, []byte("of "+key))
	}
	consultest.Await(t, 5*time.Second, "the watch of the tree has its keys in order", func() error {
		var got []string
		for _, entry := range tree.State().Value {
			got = append(got, entry.Key+"="+string(entry.Value))
		}
		if text := strings.Join(got, " "); text != "lab/a=of lab/a lab/b/2=of lab/b/2 lab/title=one" {
			return unequal("the tree", text, "three keys below lab/")
		}
		return nil
	})
	if err := client.KVPut(t.Context(), "other/title", nil); !errors.Is(err, ErrForbidden) {
		t.Errorf("outside of what the token may: %v", err)
	}
}
