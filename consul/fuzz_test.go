package consul

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/consul/api"

	"sluice/identity"
)

// questions are all that the agent is asked whose answers are read here. Each returns the
// keys that it believes, or nothing.
func questions(c *Client) []func(context.Context) ([]string, error) {
	options := func(ctx context.Context) *api.QueryOptions {
		return (&api.QueryOptions{WaitIndex: 3}).WithContext(ctx)
	}
	source, _ := identity.New(testDomain, "dc1", "web")
	return []func(context.Context) ([]string, error){
		func(ctx context.Context) ([]string, error) {
			_, _, err := c.DestinationPolicy("db").rules.cfg.query(ctx, options(ctx))
			return nil, err
		},
		func(ctx context.Context) ([]string, error) {
			_, _, err := c.watchRoots(nil).cfg.query(ctx, options(ctx))
			return nil, err
		},
		func(ctx context.Context) ([]string, error) {
			_, _, err := c.watchLeaf("web", nil).cfg.query(ctx, options(ctx))
			return nil, err
		},
		func(ctx context.Context) ([]string, error) {
			roots, _, err := c.sdk.Agent().ConnectCARoots(options(ctx))
			if err == nil {
				_ = roots.Roots[0].RootCertPEM // as the SDK does
			}
			return nil, err
		},
		func(ctx context.Context) ([]string, error) {
			entries, _, err := c.KVTreeWatch("conf").cfg.query(ctx, options(ctx))
			return keysOf(entries), err
		},
		func(ctx context.Context) ([]string, error) {
			entries, _, err := c.KVTree(ctx, "conf")
			return keysOf(entries), err
		},
		func(ctx context.Context) ([]string, error) { _, _, err := c.KVGet(ctx, "conf"); return nil, err },
		func(ctx context.Context) ([]string, error) { _, err := c.Overlay(ctx); return nil, err },
		func(ctx context.Context) ([]string, error) {
			_, _, err := c.watchSession("conf").cfg.query(ctx, options(ctx))
			return nil, err
		},
		func(ctx context.Context) ([]string, error) {
			_, _, err := c.watchMesh("web", "", true, knownRoots(), nil).cfg.query(ctx, options(ctx))
			return nil, err
		},
		func(ctx context.Context) ([]string, error) {
			_, _, err := c.watchPlain("web", "urlprefix-", nil).cfg.query(ctx, options(ctx))
			return nil, err
		},
		func(ctx context.Context) ([]string, error) {
			_, _, err := c.ResolverAll("urlprefix-").names.cfg.query(ctx, options(ctx))
			return nil, err
		},
		func(ctx context.Context) ([]string, error) { _, err := c.ListIntentions(ctx); return nil, err },
		func(ctx context.Context) ([]string, error) {
			entry, err := c.readEntry(ctx, "db")
			if err == nil && entry != nil {
				_, _ = mergeEntry(entryOf(entry), entry)
			}
			return nil, err
		},
		func(ctx context.Context) ([]string, error) { _, err := c.Unhealthy(ctx, "web", true); return nil, err },
		func(ctx context.Context) ([]string, error) {
			_, err := c.Registrar().knownToServers(ctx, ttl("web-1", "web"), report{status: api.HealthPassing})
			return nil, err
		},
		func(ctx context.Context) ([]string, error) {
			services, checks, err := c.Registrar().actual(ctx, []string{"web-1"})
			ttl("web-1", "web").matches(services["web-1"], checks["service:web-1"])
			return nil, err
		},
		func(ctx context.Context) ([]string, error) {
			_, err := c.Verdicts().Authorize(ctx, source, "db")
			return nil, err
		},
		func(ctx context.Context) ([]string, error) { return nil, c.RotateRoot(ctx) },
		func(ctx context.Context) ([]string, error) { return nil, c.AwaitReplication(ctx, "dc1") },
		func(ctx context.Context) ([]string, error) {
			return nil, c.PutToken(ctx, Token{Name: "a", Rules: "x"})
		},
		func(ctx context.Context) ([]string, error) { _, err := c.openSession(ctx, "conf"); return nil, err },
		func(ctx context.Context) ([]string, error) {
			_, err := c.acquireOnce(ctx, "conf", "s")
			return nil, err
		},
	}
}

func keysOf(entries []KVEntry) []string {
	var keys []string
	for _, entry := range entries {
		keys = append(keys, entry.Key)
	}
	return keys
}

// FuzzNoAnswerEndsTheProcess gives one answer to every question. What comes of it is
// a value or an error, and never a key that was not asked for.
func FuzzNoAnswerEndsTheProcess(f *testing.F) {
	for _, body := range []string{
		"null", "[null]", "{}", "[]", "[{}]", `{"db":[null]}`, `{"db":[{"SourceName":"a","Action":"allow","Permissions":[null]}]}`,
		`{"TrustDomain":"x","Roots":[null]}`, `[{"Key":"conf/a","Value":"YQ=="},null]`, plainAnswer("a"), `[{"Node":{},"Service":{},"Checks":[null]}]`,
		`{"Kind":"service-intentions","Name":"db","ModifyIndex":5,"Sources":[null],"JWT":null}`, `[{"Kind":"service-intentions","Name":"db","ModifyIndex":5,"Sources":[null]}]`,
		`[{"Kind":"mesh"}]`, `[{"Kind":5}]`, `{"Authorized":true,"Reason":"Matched L4 intention: => ("}`, `{"Authorized":true,"Allowed":true}`,
		`{"Provider":"consul","Config":null}`, `{"web-1":null}`, `{"service:web-1":{"Type":"ttl"}}`, "<html>", "true", `"a"`, "1e999", `{"CertPEM":"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"}`,
		`[{"Service":{"Proxy":{"Upstreams":[null]},"Meta":null},"Node":{"Meta":{}},"Checks":[{"Status":"passing","Definition":null}]}]`,
	} {
		f.Add("5", 200, []byte(body))
	}
	f.Add("", 200, []byte("[]"))
	f.Add("x", 404, []byte("not found"))
	f.Add("5", 403, []byte("ACL not found"))
	f.Add("5", 301, []byte(""))
	type answer struct {
		index  string
		status int
		body   []byte
	}
	var now atomic.Pointer[answer]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a := now.Load()
		w.Header().Set("X-Consul-Index", a.index)
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body)
	}))
	f.Cleanup(server.Close)
	client, err := Open(Config{Address: server.URL, BreakGlass: "conf"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(client.Close)
	ask := questions(client)
	f.Fuzz(func(t *testing.T, index string, status int, body []byte) {
		if status < 200 || status > 599 || strings.ContainsAny(index, "\r\n") {
			return
		}
		now.Store(&answer{index, status, body})
		for i, question := range ask {
			keys, err := question(t.Context())
			for _, key := range keys {
				if err == nil && !strings.HasPrefix(key, "conf") {
					t.Errorf("question %d believes in %q", i, key)
				}
			}
		}
	})
}

func FuzzAReasonIsReadOrLeft(f *testing.F) {
	for _, reason := range []string{
		"Matched L4 intention: default/web => default/db (ID: , Precedence: 9, Action: ALLOW)", "Matched L7 intention: a => b (", "Matched L4 intention:  =>  (", "Default behavior configured by ACLs",
	} {
		f.Add(reason)
	}
	f.Fuzz(func(t *testing.T, reason string) {
		rule := ruleFromReason(reason)
		if rule != nil && (!strings.Contains(reason, rule.Source) || !strings.Contains(reason, rule.Destination) || isDefaultReason(reason)) {
			t.Errorf("%q is read as %+v", reason, *rule)
		}
	})
}
