package auth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"sluice/gateway/auth"
)

// line returns a line of a password file with the cheapest hash.
func line(t testing.TB, user, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	// As htpasswd writes it.
	return user + ":" + strings.Replace(string(hash), "$2a$", "$2y$", 1) + "\n"
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func basic(credentials string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
}

func open(t testing.TB, content string) (guard *auth.Guard, file string, log *bytes.Buffer) {
	t.Helper()
	file, log = filepath.Join(t.TempDir(), "staff"), &bytes.Buffer{}
	write(t, file, content)
	guard, err := auth.Open(auth.Config{
		Schemes: []auth.Scheme{{Name: "staff", File: file, Realm: `the "staff"`}},
		Logger:  slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return guard, file, log
}

func TestOnlyTheRightPasswordOfAKnownUserLetsIn(t *testing.T) {
	guard, _, _ := open(t, "# staff\n\n"+line(t, "ann", "a:b ä")+line(t, "bob", "")+line(t, "cyd", strings.Repeat("x", 72)))
	tests := []struct {
		name, header string
		want         auth.Reason
		user         string
	}{
		{"right", basic("ann:a:b ä"), auth.Granted, "ann"},
		{"right again, from memory", basic("ann:a:b ä"), auth.Granted, "ann"},
		{"any case of the word", "bAsIc" + strings.TrimPrefix(basic("ann:a:b ä"), "Basic"), auth.Granted, "ann"},
		{"two blanks", "Basic " + strings.TrimPrefix(basic("ann:a:b ä"), "Basic"), auth.Granted, "ann"},
		{"empty password", basic("bob:"), auth.Granted, "bob"},
		{"longest password", basic("cyd:" + strings.Repeat("x", 72)), auth.Granted, "cyd"},
		{"beyond what bcrypt compares", basic("cyd:" + strings.Repeat("x", 73)), auth.Malformed, ""},
		{"wrong password", basic("ann:a:b"), auth.Wrong, ""},
		{"password of another", basic("bob:a:b ä"), auth.Wrong, ""},
		{"no such user", basic("eve:a:b ä"), auth.Wrong, ""},
		{"user in another case", basic("Ann:a:b ä"), auth.Wrong, ""},
		{"no header", "", auth.Missing, ""},
		{"no user", basic(":x"), auth.Malformed, ""},
		{"no colon", basic("ann"), auth.Malformed, ""},
		{"NUL", basic("ann:a:b ä\x00"), auth.Malformed, ""},
		{"another scheme", "Bearer abc", auth.Malformed, ""},
		{"word alone", "Basic", auth.Malformed, ""},
		{"no padding", strings.TrimRight(basic("ann:a:b ä"), "="), auth.Malformed, ""},
		{"two in one", basic("ann:a:b ä") + ", " + basic("ann:a:b ä"), auth.Malformed, ""},
		{"too long", basic("ann:" + strings.Repeat("x", 4096)), auth.Malformed, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := guard.Check(t.Context(), "staff", test.header)
			if got.Reason != test.want || got.User != test.user || got.Allowed() != (test.want == auth.Granted) {
				t.Errorf("got %+v (%s), want %s", got, got.Reason, test.want)
			}
			if want := `Basic realm="the \"staff\"", charset="UTF-8"`; got.Challenge != want {
				t.Errorf("challenge %s, want %s", got.Challenge, want)
			}
		})
	}
}

func TestUnknownSchemeLetsNobodyIn(t *testing.T) {
	guard, _, _ := open(t, line(t, "ann", "x"))
	got := guard.Check(t.Context(), "stuff", basic("ann:x"))
	if got.Allowed() || got.Challenge != "" {
		t.Errorf("got %+v", got)
	}
	if (auth.Verdict{}).Allowed() {
		t.Error("the zero Verdict lets in")
	}
}

func TestEmptyFileLetsNobodyIn(t *testing.T) {
	guard, _, _ := open(t, "")
	if got := guard.Check(t.Context(), "staff", basic("ann:x")); got.Reason != auth.Wrong {
		t.Errorf("got %+v", got)
	}
}

func TestWhatIsNotBcryptIsRefusedInWordsThatHoldNoSecret(t *testing.T) {
	good := line(t, "ann", "x")
	tests := []struct{ name, content, want string }{
		{"apr1", good + "bob:$apr1$SECRET$SECRET", "line 2: its hash is MD5 (apr1)"},
		{"SHA", "bob:{SHA}SECRET=", "SHA-1 without a salt"},
		{"crypt", "bob:$6$SECRET", "SHA-512 (crypt)"},
		{"plain", "bob:SECRET", "plain text"},
		{"damaged", "bob:$2y$04$SECRET", "damaged"},
		{"cost", "bob:$2y$31$" + strings.Repeat("S", 53), "cost is 31"},
		{"no colon", "\n\nSECRET", "line 3: want USER:HASH"},
		{"no user", ":SECRET", "want USER:HASH"},
		{"twice", good + good, "line 2: its user has a line above"},
		{"too large", strings.Repeat("#\n", 1<<19+1), "larger than"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "staff")
			write(t, file, test.content)
			_, err := auth.Open(auth.Config{Schemes: []auth.Scheme{{Name: "staff", File: file}}})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestChangeOfTheFileIsTakenAndABadOneLeavesTheUsersBefore(t *testing.T) {
	content := line(t, "ann", "old")
	other := line(t, "ann", "new")
	guard, file, log := open(t, content)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- guard.Run(ctx) }()
		look := func(content string) {
			if content == "" {
				_ = os.Remove(file)
			} else {
				write(t, file, content)
			}
			time.Sleep(2 * auth.DefaultInterval) // virtual
			synctest.Wait()
		}
		expect := func(password string, want auth.Reason) {
			t.Helper()
			if got := guard.Check(ctx, "staff", basic("ann:"+password)); got.Reason != want {
				t.Errorf("password %q: %s, want %s", password, got.Reason, want)
			}
		}
		expect("old", auth.Granted)
		look(other)
		expect("old", auth.Wrong)
		expect("new", auth.Granted)
		look("ann:{SHA}SECRET")
		expect("new", auth.Granted)
		if problem := guard.Problems()["staff"]; problem == nil || !strings.Contains(problem.Error(), "line 1") {
			t.Errorf("problem: %v", problem)
		}
		look("")
		expect("new", auth.Granted)
		look(other)
		if problems := guard.Problems(); len(problems) > 0 {
			t.Errorf("problems after the repair: %v", problems)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if n := strings.Count(log.String(), "refused"); n != 2 || strings.Contains(log.String(), "SECRET") {
		t.Errorf("each of the two problems is told once, without content:\n%s", log)
	}
}

// A comparison that waits for its turn ends with its request.
func TestCheckDoesNotWaitLongerThanItsRequest(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("x"), 8)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "staff")
	write(t, file, "ann:"+string(hash))
	guard, err := auth.Open(auth.Config{Schemes: []auth.Scheme{{Name: "staff", File: file}}, Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	verdicts := make(chan auth.Verdict, 8)
	for range cap(verdicts) {
		go func() { verdicts <- guard.Check(ended, "staff", basic("ann:wrong")) }()
	}
	busy := 0
	for range cap(verdicts) {
		if v := <-verdicts; v.Reason == auth.Busy {
			busy++
		} else if v.Reason != auth.Wrong {
			t.Errorf("got %s", v.Reason)
		}
	}
	if busy == 0 {
		t.Error("all eight were compared, though one may be at once and none may wait")
	}
}

func TestSchemeIsReadAsFabioWritesIt(t *testing.T) {
	tests := []struct {
		text string
		want auth.Scheme
		err  string
	}{
		{"name=a;type=basic;file=p/f;realm=R x", auth.Scheme{Name: "a", File: "p/f", Realm: "R x"}, ""},
		{" name = a ; file = f ;", auth.Scheme{Name: "a", File: "f"}, ""},
		{"file=f", auth.Scheme{}, "no name"},
		{"name=a", auth.Scheme{}, "no file"},
		{"name=a;file=f;file=g", auth.Scheme{}, "twice"},
		{"name=a;type=external;endpoint=x", auth.Scheme{}, `type "external" is unknown`},
		{"name=a;file=f;relm=x", auth.Scheme{}, `"relm" is unknown`},
		{"name=a;file=f;realm=x\r\ny", auth.Scheme{}, "control"},
		{"name=a;file", auth.Scheme{}, "no value"},
	}
	for _, test := range tests {
		got, err := auth.ParseScheme(test.text)
		if test.err == "" && (err != nil || got != test.want) {
			t.Errorf("%q: got %+v, %v", test.text, got, err)
		}
		if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%q: got %v, want %q", test.text, err, test.err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	guard, _, _ := open(f, line(f, "ann", "right"))
	for _, seed := range []string{basic("ann:right"), basic("ann:wrong"), "Basic", "Basic ====", "basic  " + basic("a:b")[6:]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		got := guard.Check(t.Context(), "staff", header)
		text, _ := strings.CutPrefix(strings.ToLower(header), "basic ")
		if got.Allowed() && !strings.EqualFold(strings.Trim(text, " "), basic("ann:right")[6:]) {
			t.Errorf("%q was let in", header)
		}
	})
}

func BenchmarkCheckOfCredentialsSeenBefore(b *testing.B) {
	guard, _, _ := open(b, line(b, "ann", "x"))
	header := basic("ann:x")
	b.ReportAllocs()
	for b.Loop() {
		if !guard.Check(b.Context(), "staff", header).Allowed() {
			b.Fatal("refused")
		}
	}
}

func TestEachChangeOfAFileIsToldOnceAndNamesNobody(t *testing.T) {
	file := filepath.Join(t.TempDir(), "staff")
	ann, bob, other := line(t, "ann", "x"), line(t, "bob", "x"), line(t, "ann", "y")
	write(t, file, ann)
	var told []string
	guard, err := auth.Open(auth.Config{Schemes: []auth.Scheme{{Name: "staff", File: file}}, Changed: func(c auth.Change) {
		if c.Scheme != "staff" || c.Took <= 0 || c.Took > time.Minute {
			t.Errorf("got %+v", c)
		}
		told = append(told, c.String())
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ content, want string }{
		{ann, ""},
		{ann + bob, "users: 2 (1 new)"},
		{other, "users: 1 (1 gone, 1 with another password)"},
		{"ann:SECRET", "line 1: its hash is"},
		{other, "users: 1 (as before)"},
		{"# nobody\n", "users: 0 (1 gone)"},
	} {
		told = nil
		write(t, file, c.content)
		guard.Reload()
		guard.Reload()
		text := strings.Join(told, "; ")
		if (text == "") != (c.want == "") || !strings.Contains(text, c.want) || len(told) > 1 || strings.Contains(text, "ann") || strings.Contains(text, "SECRET") {
			t.Errorf("after %d bytes: %q is told, want %q once", len(c.content), text, c.want)
		}
	}
}
