package consul

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/internal/consultest"
)

func TestKeysThatTheTokenMayNotReadAreNoEmptyTree(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	put := func(key string) { agent.Call(http.MethodPut, "/v1/kv/"+key, "text", nil) }
	put("conf")
	put("configured") // begins as conf does, and is none of its tree
	for name, test := range map[string]struct {
		rules, below string
		hidden       bool
	}{
		"may read nothing":        {`key "elsewhere" { policy = "read" }`, "", true},
		"may read the tree alone": {`key "conf" { policy = "read" } key_prefix "conf/" { policy = "read" }`, "conf/a", false},
		"may read the key alone":  {`key "conf" { policy = "read" }`, "conf/a", true},
	} {
		if test.below != "" {
			put(test.below)
		}
		watch := open(t, agent, agent.PolicyFile(test.rules)).KVTreeWatch("conf")
		running(t, watch.Run)
		consultest.Await(t, 5*time.Second, name, func() error {
			state := watch.State()
			switch {
			case test.hidden && (state.Known || !errors.Is(state.Err, ErrForbidden) || !strings.Contains(state.Err.Error(), `key_prefix "conf"`)):
				return unequal("the state", state.Err, "a refusal that names the rule")
			case !test.hidden && len(state.Value) != 2:
				return unequal("the tree", state, "two keys")
			}
			return nil
		})
	}
}

func TestKeysThatAreHiddenLaterLeaveTheLastOnes(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	agent.Call(http.MethodPut, "/v1/kv/conf/a", "text", nil)
	watch := open(t, agent, agent.PolicyFile(`key "conf" { policy = "read" } key "conf/a" { policy = "read" }`)).KVTreeWatch("conf")
	running(t, watch.Run)
	consultest.Await(t, 5*time.Second, "the first key is read", func() error {
		if state := watch.State(); len(state.Value) != 1 {
			return unequal("the tree", state, "one key")
		}
		return nil
	})
	agent.Call(http.MethodPut, "/v1/kv/conf/b", "text", nil)
	consultest.Await(t, 5*time.Second, "a key that may not be read is told of, and the last tree stays", func() error {
		if state := watch.State(); len(state.Value) != 1 || !errors.Is(state.Err, ErrForbidden) {
			return unequal("the state", state, "one key and a refusal")
		}
		return nil
	})
}

func TestATreeIsReadWholeWithTheIndexOfItsNewestChange(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	client := open(t, agent, agent.PolicyFile(`key_prefix "conf/" { policy = "write" }`))
	put := func(key string) {
		t.Helper()
		if err := client.KVPut(t.Context(), key, []byte("text")); err != nil {
			t.Fatal(err)
		}
	}
	tree := func(want int) uint64 {
		t.Helper()
		entries, index, err := client.KVTree(t.Context(), "conf/")
		if err != nil || len(entries) != want {
			t.Fatalf("the tree: %v, %v; want %d keys", entries, err, want)
		}
		return index
	}
	put("conf/b")
	first := tree(1)
	put("conf/a")
	second := tree(2)
	if err := client.KVDelete(t.Context(), "conf/a"); err != nil {
		t.Fatal(err)
	}
	if third := tree(1); second <= first || third <= second {
		t.Errorf("the index went %d, %d, %d", first, second, third)
	}
	if err := client.KVDelete(t.Context(), "conf/never"); err != nil {
		t.Errorf("a key that is not there: %v", err)
	}
	blind := open(t, agent, agent.PolicyFile(`key_prefix "conf/" { policy = "read" } key "conf/b" { policy = "deny" }`))
	if entries, _, err := blind.KVTree(t.Context(), "conf/"); !errors.Is(err, ErrForbidden) {
		t.Errorf("keys that may not be read: %v, %v", entries, err)
	}
}
