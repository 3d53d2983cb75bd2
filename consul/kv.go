package consul

import (
	"bytes"
	"context"
	"fmt"

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

func keyRule(key, policy string) string { return fmt.Sprintf("key %q { policy = %q }", key, policy) }
