package consul

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/identity"
	"sluice/intentions"
	"sluice/internal/consultest"
	"sluice/internal/testca"
)

// liar answers the first question well and each further one badly, always with an index.
func liar(t *testing.T, good, bad string) (url string) {
	var answered atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := answered.Add(1)
		w.Header().Set("X-Consul-Index", strconv.FormatInt(4+n, 10))
		w.Header().Set("X-Consul-LastContact", "0")
		_, _ = w.Write([]byte(map[bool]string{true: good, false: bad}[n == 1]))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func rootsAnswer(t *testing.T, more string) string {
	pem, err := json.Marshal(testca.NewRoot(t, testDomain).PEM())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"TrustDomain":%q,"Roots":[{"ID":"a","RootCert":%s}%s]}`, testDomain, pem, more)
}

// TestAWatchRefusesALieAsAWholeAndKeepsWhatIsKnown has answers that Consul never gives;
// what the good one says is a.
func TestAWatchRefusesALieAsAWholeAndKeepsWhatIsKnown(t *testing.T) {
	const pair = `[{"Key":"conf","Value":"YQ=="}]`
	entry := strings.Trim(plainAnswer("a"), "[]")
	allows := `{"db":[{"SourceName":"a","DestinationName":"db","Action":"allow"}]}`
	for what, test := range map[string]struct {
		good string
		lies []string
	}{
		"intentions": {allows, []string{`{"db":[null]}`, allows[:len(allows)-2] + ",null]}", `{}`, `{"web":[]}`, "null", "[]", "<html>"}},
		"roots":      {rootsAnswer(t, ""), []string{rootsAnswer(t, ",null"), `{"TrustDomain":"x","Roots":[null]}`, "{}", "null", "[]", "<html>"}},
		"keys":       {pair, []string{"[null]", strings.Replace(pair, "[", "[null,", 1), "[]", "null", `{}`, "<html>", `[{"Key":"other"}]`}},
		"key":        {pair, []string{"[null]", "[]", "null", `{}`, "<html>", `[{"Key":"other"}]`, strings.Replace(pair, "[", `[{"Key":"conf"},`, 1)}},
		"session":    {`[{"Key":"conf","Session":"a"}]`, []string{"[null]", "[]", "null", `[{"Key":"other"}]`}},
		"instances":  {plainAnswer("a"), []string{"[null]", "[" + entry + ",null]", "null", "{}", "[{}]", "<html>", strings.Replace(plainAnswer("a"), `"Checks":[]`, `"Checks":[null]`, 1), strings.Replace(plainAnswer("a"), `"Node":{"Node"`, `"Node":null,"Other":{"Node"`, 1)}},
		"plain":      {plainAnswer("a"), []string{"[null]", "null", `[{"Node":{},"Service":null}]`, strings.Replace(plainAnswer("a"), `"Tags":[`, `"Tags":[null,`, 1)}},
		"services":   {`{"a":["urlprefix-/"]}`, []string{"null", `{"a":[null]}`, `{"a":["urlprefix-/",null]}`, "[]", "<html>"}},
	} {
		for _, lie := range test.lies {
			t.Run(what+" "+lie[:min(len(lie), 20)], func(t *testing.T) {
				t.Parallel()
				client := openAt(t, liar(t, test.good, lie), "")
				kept := followLiar(t, client, what)
				if !strings.HasPrefix(kept, "a ") || strings.HasSuffix(kept, " <nil>") {
					t.Errorf("%s is known; want a, and an error", kept)
				}
			})
		}
	}
}

// followLiar follows something until a second answer has come, and says what is known then.
func followLiar(t *testing.T, client *Client, what string) string {
	switch what {
	case "intentions":
		return secondOf(t, client.DestinationPolicy("db").rules, func(l []intentions.Rule) string { return l[0].Source })
	case "roots":
		return secondOf(t, client.watchRoots(nil), func(f rootFacts) string { return strings.Join(f.ids, ",") })
	case "keys":
		return secondOf(t, client.KVTreeWatch("conf"), func(l []KVEntry) string { return string(slices.Concat(l[0].Value)) })
	case "key":
		return secondOf(t, client.KVWatch("conf"), func(value []byte) string { return string(value) })
	case "session":
		return secondOf(t, client.watchSession("conf"), func(session string) string { return session })
	case "instances":
		return secondOf(t, client.watchInstances("web", "", knownRoots(), nil), func(l instanceList) string { return idsOf(l.instances) })
	case "plain":
		return secondOf(t, client.watchPlain("web", "urlprefix-", nil), func(l instanceList) string { return idsOf(l.instances) })
	}
	return secondOf(t, client.ResolverAll("urlprefix-").names, func(l []string) string { return strings.Join(l, ",") })
}

func secondOf[T any](t *testing.T, watch *Watch[T], text func(T) string) string {
	defer running(t, watch.Run)()
	consultest.Await(t, 5*time.Second, "a second answer has come", func() error {
		if state := watch.State(); !state.Known || state.Index == 5 && state.Failures == 0 {
			return fmt.Errorf("not yet: %w", cmp.Or(state.Err, errors.New("no answer")))
		}
		return nil
	})
	state := watch.State()
	known := "none"
	func() {
		defer func() { _ = recover() }() // an empty list has no first
		known = text(state.Value)
	}()
	return fmt.Sprintf("%s %v", known, state.Err)
}

func TestWhoAsksOnceIsToldOfALie(t *testing.T) {
	const intention = `"Kind":"service-intentions","Name":"db","ModifyIndex":5,"Sources":[{"Name":"web","Action":"allow"}`
	instance := strings.Trim(plainAnswer("a"), "[]")
	for what, test := range map[string]struct {
		ask  func(context.Context, *Client) error
		good string
		lies []string
	}{
		"list of intentions": {
			func(ctx context.Context, c *Client) error { _, err := c.ListIntentions(ctx); return err },
			"[{" + intention + "]}]",
			[]string{"[{" + intention + ",null]}]", "[null]", `[{"Kind":"service-intentions"}]`, "{}", "<html>"},
		},
		"one entry": {
			func(ctx context.Context, c *Client) error { _, _, err := c.GetEntry(ctx, "db"); return err },
			"{" + intention + "]}",
			[]string{"{" + intention + ",null]}", "{}", "null", strings.Replace("{"+intention+"]}", "db", "other", 1), "<html>"},
		},
		"key": {
			func(ctx context.Context, c *Client) error { _, _, err := c.KVGet(ctx, "conf"); return err },
			`[{"Key":"conf"}]`,
			[]string{"[null]", "[]", `[{"Key":"other"}]`, "<html>"},
		},
		"tree": {
			func(ctx context.Context, c *Client) error { _, _, err := c.KVTree(ctx, "conf/"); return err },
			`[{"Key":"conf/a"}]`,
			[]string{"[null]", `[{"Key":"conf/a"},null]`, "[]", "null", `[{"Key":"other"}]`, "<html>"},
		},
		"denials": {
			func(ctx context.Context, c *Client) error { _, err := c.Overlay(ctx); return err },
			`[{"Key":"conf/a"}]`,
			[]string{"[null]", `[{"Key":"conf/a"},null]`, "[]", "null", `[{"Key":"other"}]`, "<html>"},
		},
		"health": {
			func(ctx context.Context, c *Client) error { _, err := c.Unhealthy(ctx, "web", true); return err },
			strings.Replace(plainAnswer("a"), `"Checks":[]`, `"Checks":[{"Definition":null}]`, 1),
			[]string{"[null]", "null", "[" + instance + ",null]", strings.Replace(plainAnswer("a"), `"Checks":[]`, `"Checks":[null]`, 1), "[{}]", "<html>"},
		},
		"what the agent holds": {
			func(ctx context.Context, c *Client) error {
				_, _, err := c.Registrar().actual(ctx, []string{"web-1"})
				return err
			},
			`{"a":{"Definition":null},"b":null}`,
			[]string{"[]", `{"a":[]}`, "<html>"},
		},
		"what the servers know": {
			func(ctx context.Context, c *Client) error {
				_, err := c.Registrar().knownToServers(ctx, ttl("web-1", "web"), report{})
				return err
			},
			plainAnswer("a"),
			[]string{"[null]", strings.Replace(plainAnswer("a"), `"Checks":[]`, `"Checks":[null]`, 1), "<html>"},
		},
		"the authority's configuration": {
			func(ctx context.Context, c *Client) error { return c.RotateRoot(ctx) },
			`{"Provider":"consul","Config":{}}`,
			[]string{"{}", "null", "<html>"},
		},
	} {
		ask := func(t *testing.T, answer, index string) error {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Consul-Index", index)
				_, _ = w.Write([]byte(answer))
			}))
			defer server.Close()
			client, err := Open(Config{Address: server.URL, BreakGlass: "conf"})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			return test.ask(within(t, 5*time.Second), client)
		}
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if err := ask(t, test.good, "5"); err != nil {
				t.Errorf("the truth: %v", err)
			}
			for _, lie := range test.lies {
				if err := ask(t, lie, "5"); err == nil {
					t.Errorf("%s is believed", lie)
				}
			}
		})
	}
}

func TestWhatIsNotFoundByOthersThanConsulIsNotTakenForGone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(http.NotFound))
	defer server.Close()
	client, err := Open(Config{Address: server.URL, BreakGlass: "conf"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := within(t, 5*time.Second)
	if _, there, err := client.KVGet(ctx, "done"); err == nil {
		t.Errorf("a key: %t, and no error", there)
	}
	if _, err := client.Overlay(ctx); err == nil {
		t.Error("denials: none, and no error")
	}
	if _, _, err := client.KVTree(ctx, "conf/"); err == nil {
		t.Error("a tree: none, and no error")
	}
	if _, there, err := client.GetEntry(ctx, "db"); err == nil {
		t.Errorf("an entry: %t, and no error", there)
	}
}

func TestALieAboutTheRootsReachesNeitherThisProcessNorTheSDK(t *testing.T) {
	for name, lie := range map[string]map[string]any{
		"a null":        {"TrustDomain": testDomain, "Roots": []any{nil}},
		"none":          {"TrustDomain": testDomain, "Roots": []any{}},
		"nothing":       {},
		"no text":       {"TrustDomain": testDomain, "Roots": []any{map[string]any{"RootCert": "text"}}},
		"another shape": {"TrustDomain": 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, address := newFakeCA(t)
			root := testca.NewRoot(t, testDomain)
			fake.serve(t, root, testca.Leaf{Datacenter: "dc1", Service: "web"}, root)
			identity := follow(t, address, nil)
			if err := identity.Wait(within(t, 5*time.Second)); err != nil {
				t.Fatal(err)
			}
			fake.lie(lie)
			consultest.Await(t, 10*time.Second, "the lie has come to all who ask", func() error {
				if identity.roots.State().Failures < 2 {
					return errors.New("not yet")
				}
				return fake.told()
			})
			if credentials, err := identity.Credentials(); err != nil || shakeHands(credentials, credentials) != nil {
				t.Errorf("the last good credentials are gone: %v", err)
			}
		})
	}
}

func TestAnAnswerThatDoesNotEndIsCutAndAPageOfAnErrorIsShortened(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Consul-Index", "5")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`[{"Key":"`))
		for line := []byte(strings.Repeat("x", 1<<16)); ; {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	client := openAt(t, server.URL, "")
	for _, c := range []*http.Client{client.longHTTP, client.briefHTTP} {
		c.Transport.(*tokenTransport).longest = 1 << 20
	}
	if _, _, err := client.KVGet(within(t, 10*time.Second), "conf"); !errors.Is(err, errTooLong) {
		t.Errorf("an answer without an end: %v, want %v", err, errTooLong)
	}
	watch := client.watchPlain("web", "urlprefix-", nil)
	running(t, watch.Run)
	consultest.Await(t, 10*time.Second, "a watch says so", func() error {
		if err := watch.State().Err; !errors.Is(err, errTooLong) {
			return unequal("the error", err, errTooLong)
		}
		return nil
	})
	status = http.StatusBadGateway
	if _, _, err := client.KVGet(within(t, 10*time.Second), "conf"); err == nil || len(err.Error()) > 5_000 {
		t.Errorf("a page of an error: %.200v", err)
	}
}

func TestATokenIsNotCarriedToWhereAnAnswerPoints(t *testing.T) {
	var carried atomic.Value
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		carried.Store(r.Header.Get("X-Consul-Token"))
	}))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusMovedPermanently))
	defer server.Close()
	client := openAt(t, server.URL, writeFile(t, "token", "the-token", 0o600))
	if _, _, err := client.KVGet(within(t, 5*time.Second), "conf"); err == nil || carried.Load() != nil {
		t.Errorf("error %v; the token went on: %v", err, carried.Load())
	}
	source, err := identity.New(testDomain, "dc1", "web")
	if err != nil {
		t.Fatal(err)
	}
	if decision, err := client.Verdicts().Authorize(within(t, 5*time.Second), source, "db"); err == nil || carried.Load() != nil {
		t.Errorf("%+v, error %v; the token went on: %v", decision, err, carried.Load())
	}
}
