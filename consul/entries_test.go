package consul

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/intentions"
	"sluice/internal/consultest"
)

func rule(source, destination string, action intentions.Action) intentions.Rule {
	return intentions.Rule{Source: source, Destination: destination, Action: action}
}

func TestEntriesAreWrittenOnlyOverTheVersionThatWasRead(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	client := open(t, agent, agent.PolicyFile(`service_prefix "" { policy = "read" intentions = "write" }`))
	ctx := t.Context()
	entry := intentions.Entry{Destination: "db", Rules: []intentions.Rule{rule("web", "db", intentions.Allow)}}
	if err := client.ApplyEntry(ctx, entry); err != nil {
		t.Fatal(err)
	}
	if err := client.ApplyEntry(ctx, entry); !errors.Is(err, ErrConflict) {
		t.Errorf("created twice: %v, want ErrConflict", err)
	}
	read, ok, err := client.GetEntry(ctx, "db")
	if err != nil || !ok || read.Version == 0 || len(read.Rules) != 1 || read.Rules[0] != entry.Rules[0] {
		t.Fatalf("read back %+v, %t, %v", read, ok, err)
	}
	if err := client.SetIntention(ctx, rule("stranger", "db", intentions.Deny)); err != nil {
		t.Fatal(err)
	}
	read.Rules[0].Action = intentions.Deny
	if err := client.ApplyEntry(ctx, read); !errors.Is(err, ErrConflict) {
		t.Errorf("over a concurrent change: %v, want ErrConflict", err)
	}
	if err := client.DeleteEntry(ctx, "db", read.Version); !errors.Is(err, ErrConflict) {
		t.Errorf("delete over a concurrent change: %v, want ErrConflict", err)
	}
	entries, err := client.ListIntentions(ctx)
	if err != nil || len(entries) != 1 || len(entries[0].Rules) != 2 {
		t.Fatalf("after the conflicts there is %+v, %v", entries, err)
	}
	if err := client.DeleteIntention(ctx, "stranger", "db"); err != nil {
		t.Fatal(err)
	}
	if err := client.DeleteIntention(ctx, "stranger", "db"); err != nil {
		t.Errorf("deleted twice: %v", err)
	}
	read, _, err = client.GetEntry(ctx, "db")
	if err != nil || len(read.Rules) != 1 || read.Rules[0].Source != "web" {
		t.Fatalf("after one was deleted there is %+v, %v", read, err)
	}
	read.Rules[0].Action = intentions.Deny
	if err := client.ApplyEntry(ctx, read); err != nil {
		t.Fatal(err)
	}
	if err := client.DeleteEntry(ctx, "db", read.Version); !errors.Is(err, ErrConflict) {
		t.Errorf("delete an older version: %v, want ErrConflict", err)
	}
	read, _, _ = client.GetEntry(ctx, "db")
	if err := client.DeleteEntry(ctx, "db", read.Version); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := client.GetEntry(ctx, "db"); ok || err != nil {
		t.Errorf("after it was deleted: %t, %v", ok, err)
	}
	if err := client.DeleteEntry(ctx, "db", read.Version); err != nil {
		t.Errorf("delete what is gone: %v", err)
	}
}

func TestOfManyThatWriteAtOnceOneWins(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	client := open(t, agent, agent.ManagementFile())
	var version uint64
	for round := range 10 {
		var group sync.WaitGroup
		var won atomic.Int32
		for i := range 8 {
			group.Go(func() {
				// Writing what is there already is no change, and so no conflict.
				source := fmt.Sprintf("web-%d-%d", round, i)
				err := client.ApplyEntry(t.Context(), intentions.Entry{
					Destination: "db", Version: version, Rules: []intentions.Rule{rule(source, "db", intentions.Allow)},
				})
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d of 8 wrote over version %d", won.Load(), version)
		}
		entry, _, err := client.GetEntry(t.Context(), "db")
		if err != nil {
			t.Fatal(err)
		}
		version = entry.Version
	}
}

func TestAnEntryKeepsWhatARuleCannotSay(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	client := open(t, agent, agent.ManagementFile())
	agent.Call(http.MethodPut, "/v1/config", map[string]any{"Kind": "service-defaults", "Name": "db", "Protocol": "http"}, nil)
	agent.Call(http.MethodPut, "/v1/config", map[string]any{
		"Kind": "service-intentions", "Name": "db", "Meta": map[string]string{"owner": "team"},
		"Sources": []map[string]any{{"Name": "web", "Permissions": []map[string]any{
			{"Action": "allow", "HTTP": map[string]any{"PathPrefix": "/v1"}},
		}}, {"Name": "far", "Peer": "elsewhere", "Action": "allow"}},
	}, nil)
	entry, _, err := client.GetEntry(t.Context(), "db")
	if err != nil || len(entry.Rules) != 1 || !entry.Rules[0].L7 {
		t.Fatalf("read %+v, %v", entry, err)
	}
	entry.Rules = append(entry.Rules, rule("other", "db", intentions.Allow))
	if err := client.ApplyEntry(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	held, err := client.readEntry(t.Context(), "db")
	if err != nil || held.Meta["owner"] != "team" || len(held.Sources) != 3 {
		t.Fatalf("Consul holds %+v, %v", held, err)
	}
	for _, source := range held.Sources {
		if source.Name == "web" && (len(source.Permissions) != 1 || source.Permissions[0].HTTP.PathPrefix != "/v1") {
			t.Errorf("the permissions of web are %+v", source.Permissions)
		}
		if source.Name == "far" && source.Peer != "elsewhere" {
			t.Errorf("the source in a peer became %+v", source)
		}
	}
	entry, _, _ = client.GetEntry(t.Context(), "db")
	entry.Rules = append(entry.Rules, intentions.Rule{Source: "new", Destination: "db", L7: true})
	if err := client.ApplyEntry(t.Context(), entry); err == nil {
		t.Error("wrote an L7 intention without its permissions")
	}
}

func TestCheckIsTheServersAnswer(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	client := open(t, agent, agent.ManagementFile())
	for _, want := range []bool{false, true} {
		if want {
			intend(agent, "web", "db", "allow")
		}
		if got, err := client.Check(t.Context(), "web", "db"); got != want || err != nil {
			t.Errorf("got %t, %v, want %t", got, err, want)
		}
	}
}

func TestWritingWithoutARightSaysWhichRuleIsMissing(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	client := open(t, agent, agent.ServiceFile("web"))
	for name, err := range map[string]error{
		"set":    client.SetIntention(t.Context(), rule("web", "db", intentions.Allow)),
		"delete": client.DeleteIntention(t.Context(), "web", "db"),
		"apply":  client.ApplyEntry(t.Context(), intentions.Entry{Destination: "db", Rules: []intentions.Rule{rule("web", "db", intentions.Allow)}}),
	} {
		if !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v, want ErrForbidden", name, err)
		}
	}
}
