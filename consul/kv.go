package consul

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

// KVGet returns the value of key; false means that there is none.
func (c *Client) KVGet(ctx context.Context, key string) ([]byte, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	pair, _, err := c.brief.KV().Get(key, query(ctx))
	if err != nil {
		return nil, false, explain("read key "+key, keyRule(key, "read"), err)
	}
	if pair == nil {
		return nil, false, nil
	}
	return pair.Value, true, nil
}

// KVPut sets the value of key.
func (c *Client) KVPut(ctx context.Context, key string, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := c.brief.KV().Put(&api.KVPair{Key: key, Value: value}, write(ctx))
	return explain("write key "+key, keyRule(key, "write"), err)
}

// KVDelete takes key away; one that does not exist is no error.
func (c *Client) KVDelete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := c.brief.KV().Delete(key, write(ctx))
	return explain("delete key "+key, keyRule(key, "write"), err)
}

// KVTree returns what is below prefix, in the order of names, and Consul's index of
// the answer. Keys that the token may not read are a failure, not left out.
func (c *Client) KVTree(ctx context.Context, prefix string) ([]KVEntry, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	pairs, meta, err := c.brief.KV().List(prefix, query(ctx))
	if err == nil && meta.ResultsFilteredByACLs {
		err = api.StatusError{Code: http.StatusForbidden, Body: "some keys are left out"}
	}
	if err != nil {
		return nil, 0, explain("read keys of "+prefix, fmt.Sprintf("key_prefix %q { policy = \"read\" }", prefix), err)
	}
	entries := make([]KVEntry, len(pairs))
	for i, pair := range pairs {
		entries[i] = KVEntry{Key: pair.Key, Value: pair.Value}
	}
	slices.SortFunc(entries, func(a, b KVEntry) int { return strings.Compare(a.Key, b.Key) })
	return entries, meta.LastIndex, nil
}

// KVWatch follows the value of key. A key that does not exist is a nil value.
func (c *Client) KVWatch(key string) *Watch[[]byte] {
	return newWatch(watchConfig[[]byte]{
		name: "key " + key, equal: bytes.Equal, logger: c.log,
		query: func(_ context.Context, options *api.QueryOptions) ([]byte, *api.QueryMeta, error) {
			pair, meta, err := c.long.KV().Get(key, options)
			if err != nil {
				return nil, nil, explain("read key "+key, keyRule(key, "read"), err)
			}
			if pair == nil {
				return nil, meta, nil
			}
			return pair.Value, meta, nil
		},
	})
}

// KVEntry is a key with its value.
type KVEntry struct {
	Key   string
	Value []byte
}

// KVTreeWatch follows the key and every key below it ("key/..."), in the order of
// their names. None is an empty value. Consul leaves out what the token may not
// read, without a word: where it did, the round fails with ErrForbidden, and the
// last value that was whole stays. So it does where an answer cannot be Consul's.
//
// A round takes at most 5 s, so that an agent that hangs is told by ErrHung within
// about 10 s.
func (c *Client) KVTreeWatch(key string) *Watch[[]KVEntry] { return c.watchTree(key, nil) }

func (c *Client) watchTree(key string, kick chan<- struct{}) *Watch[[]KVEntry] {
	return newWatch(watchConfig[[]KVEntry]{
		name: "keys of " + key, equal: sameEntries, kick: kick, logger: c.log, wait: firstWait,
		query: func(ctx context.Context, options *api.QueryOptions) ([]KVEntry, *api.QueryMeta, error) {
			pairs, meta, err := c.long.KV().List(key, options)
			if err != nil {
				return nil, nil, explain("read keys of "+key, fmt.Sprintf("key_prefix %q { policy = \"read\" }", key), err)
			}
			if meta.ResultsFilteredByACLs {
				if err := c.keysHidden(ctx, key); err != nil {
					return nil, nil, err
				}
			}
			if err := implausible(key, pairs); err != nil {
				return nil, nil, fmt.Errorf("read keys of %s: %w", key, err)
			}
			var entries []KVEntry
			for _, pair := range pairs {
				if pair.Key == key || strings.HasPrefix(pair.Key, key+"/") {
					entries = append(entries, KVEntry{pair.Key, pair.Value})
				}
			}
			slices.SortFunc(entries, func(a, b KVEntry) int { return strings.Compare(a.Key, b.Key) })
			return entries, meta, nil
		},
	})
}

// implausible returns why an answer about the keys that begin with prefix cannot be
// Consul's: to believe it would be to take every key for deleted.
func implausible(prefix string, pairs api.KVPairs) error {
	for _, pair := range pairs {
		if pair == nil || !strings.HasPrefix(pair.Key, prefix) {
			return errors.New("the answer has what was not asked for")
		}
	}
	return nil
}

// keysHidden returns why the key or one below it is hidden from the token; nil if
// what is hidden has another name that begins the same.
func (c *Client) keysHidden(ctx context.Context, key string) error {
	_, _, err := c.brief.KV().Get(key, query(ctx))
	if err == nil {
		var meta *api.QueryMeta
		if _, meta, err = c.brief.KV().List(key+"/", query(ctx)); err == nil && meta.ResultsFilteredByACLs {
			err = api.StatusError{Code: http.StatusForbidden, Body: "some keys are left out"}
		}
	}
	return explain("read keys of "+key, fmt.Sprintf("key_prefix %q { policy = \"read\" }", key), err)
}

func sameEntries(a, b []KVEntry) bool {
	return slices.EqualFunc(a, b, func(x, y KVEntry) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) })
}

func keyRule(key, policy string) string { return fmt.Sprintf("key %q { policy = %q }", key, policy) }
