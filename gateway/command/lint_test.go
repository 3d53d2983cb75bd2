package command_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice/gateway/command"
)

// lint returns what the command prints, and whether it found nothing.
func lint(t *testing.T, args ...string) (text string, good bool) {
	t.Helper()
	var out strings.Builder
	err := command.Run(t.Context(), command.Streams{Out: &out, Err: t.Output()}, append([]string{"lint"}, args...))
	return out.String(), err == nil
}

func TestLintJudgesTagsAndOverrideCommandsAsAGatewayWithItsFlagsWould(t *testing.T) {
	const add = "route add old /old http://192.0.2.1:80/"
	for _, test := range []struct {
		args []string
		good bool
		want string
	}{
		{[]string{"urlprefix-/a"}, true, "no faults\n"},
		{[]string{"urlprefix-/a wieght=1"}, false, "\n1 fault\n"},
		{[]string{"urlprefix-/a wieght=1", "urlprefix-"}, false, "\n2 faults\n"},
		{[]string{"urlprefix-/a weight=2 strip=a"}, false, `option weight: got "2": want a number from 0 to 1; option strip: got "a": want a path`},
		{[]string{add}, false, "-allow-plain"},
		{[]string{"-allow-plain", add}, true, "good: /old"},
		{[]string{"route del old"}, true, "no faults"},
		{[]string{"route delete old"}, false, "1 fault"},
		{[]string{"urlprefix-/a plain=true"}, false, "-allow-plain"},
		{[]string{"-allow-plain", "urlprefix-/a plain=true"}, true, "no faults"},
		{[]string{"urlprefix-/a allow=ip:192.0.2.0/24 proto=https"}, false, "closed to everybody"},
	} {
		if text, good := lint(t, test.args...); good != test.good || !strings.Contains(text, test.want) {
			t.Errorf("%q: good %t, %q; want %t, %q", test.args, good, text, test.good, test.want)
		}
	}
}

func TestLintTellsThatOverridesCannotBeRead(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/overrides" {
			_, _ = w.Write([]byte(`{"key": "fabio/config", "commands": 2, "ignored_lines": [], "error": "hidden"}`))
			return
		}
		_, _ = w.Write([]byte(`{"routes": [], "ignored_tags": []}`))
	}))
	defer gateway.Close()
	if text, good := lint(t, "-admin", gateway.URL); good || !strings.Contains(text, "fabio/config") || !strings.Contains(text, "the last ones hold: hidden") {
		t.Errorf("good %t, %q", good, text)
	}
}
