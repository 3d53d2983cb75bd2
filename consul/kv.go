package consul

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

// KVGet returns the value of key; false means that there is none.
func (c *Client) KVGet(ctx context.Context, key string) ([]byte, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	pair, _, err := pairOf(c.brief, key, query(ctx))
	if err != nil || pair == nil {
		return nil, false, err
	}
	return pair.Value, true, nil
}

// pairOf returns a key; nil means that there is none.
func pairOf(client *api.Client, key string, options *api.QueryOptions) (*api.KVPair, *api.QueryMeta, error) {
	pairs, meta, err := pairsOf(client.KV().Get, key, options)
	if err == nil && (len(pairs) > 1 || len(pairs) == 1 && pairs[0].Key != strings.TrimPrefix(key, "/")) {
		err = errOther
	}
	if err != nil {
		return nil, nil, explain("read key "+key, keyRule(key, "read"), err)
	}
	if len(pairs) == 0 {
		return nil, meta, nil
	}
	return pairs[0], meta, nil
}

// treeOf returns every key that begins with prefix. Whether some are hidden from the
// token is for the caller to judge.
func treeOf(client *api.Client, prefix string, options *api.QueryOptions) (api.KVPairs, *api.QueryMeta, error) {
	pairs, meta, err := pairsOf(client.KV().List, prefix, options)
	if err != nil {
		return nil, nil, explain("read keys of "+prefix, treeRule(prefix), err)
	}
	return pairs, meta, nil
}

// pairsOf asks by one of the methods of api.KV. Consul says by 404 that there is no key;
// an answer that has something else than was asked for, or nothing, is not Consul's: to
// believe it would be to take every key for deleted.
func pairsOf[T any](ask func(string, *api.QueryOptions) (T, *api.QueryMeta, error), prefix string, options *api.QueryOptions) (api.KVPairs, *api.QueryMeta, error) {
	var pairs api.KVPairs
	found := false
	_, meta, err := ask(prefix, readBy(options, func(from io.Reader, _ []byte) error {
		found = true
		return json.NewDecoder(from).Decode(&pairs)
	}))
	if err == nil {
		err = cmp.Or(indexed(meta), whole(pairs))
	}
	foreign := func(p *api.KVPair) bool { return !strings.HasPrefix(p.Key, strings.TrimPrefix(prefix, "/")) }
	if err == nil && found && (len(pairs) == 0 || slices.ContainsFunc(pairs, foreign)) {
		err = errOther
	}
	return pairs, meta, err
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
	pairs, meta, err := treeOf(c.brief, prefix, query(ctx))
	if err == nil && meta.ResultsFilteredByACLs {
		err = explain("read keys of "+prefix, treeRule(prefix), errHidden())
	}
	if err != nil {
		return nil, 0, err
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
			pair, meta, err := pairOf(c.long, key, options)
			if err != nil || pair == nil {
				return nil, meta, err
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
			pairs, meta, err := treeOf(c.long, key, options)
			if err != nil {
				return nil, nil, err
			}
			if meta.ResultsFilteredByACLs {
				if err := c.keysHidden(ctx, key); err != nil {
					return nil, nil, err
				}
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

// keysHidden returns why the key or one below it is hidden from the token; nil if
// what is hidden has another name that begins the same.
func (c *Client) keysHidden(ctx context.Context, key string) error {
	_, _, err := pairsOf(c.brief.KV().Get, key, query(ctx))
	if err == nil {
		var meta *api.QueryMeta
		if _, meta, err = pairsOf(c.brief.KV().List, key+"/", query(ctx)); err == nil && meta.ResultsFilteredByACLs {
			err = errHidden()
		}
	}
	return explain("read keys of "+key, treeRule(key), err)
}

// errHidden is what Consul does not say in words.
func errHidden() error {
	return api.StatusError{Code: http.StatusForbidden, Body: "some keys are left out"}
}

func sameEntries(a, b []KVEntry) bool {
	return slices.EqualFunc(a, b, func(x, y KVEntry) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) })
}

func keyRule(key, policy string) string { return fmt.Sprintf("key %q { policy = %q }", key, policy) }

func treeRule(prefix string) string {
	return fmt.Sprintf("key_prefix %q { policy = \"read\" }", prefix)
}
