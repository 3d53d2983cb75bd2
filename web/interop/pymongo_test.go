package interop_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/labtest"
)

// pymongo is what PyPI is asked for.
const pymongo = "pymongo==4.20.0"

func TestMain(m *testing.M) { labtest.Main(m) }

// python returns an interpreter and the folder with PyMongo, which is installed
// once into the user's cache.
func python(t *testing.T) (interpreter, path string) {
	t.Helper()
	lack := func(format string, args ...any) {
		t.Helper()
		if os.Getenv("SLUICE_REQUIRE") == "1" {
			t.Fatalf("SLUICE_REQUIRE=1, but "+format, args...)
		}
		t.Skipf(format, args...)
	}
	interpreter, err := exec.LookPath("python3")
	if err != nil {
		lack("python3 is missing: %v", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		lack("no cache folder: %v", err)
	}
	path = filepath.Join(cache, "sluice", "python", strings.ReplaceAll(pymongo, "==", "-"))
	if _, err := os.Stat(filepath.Join(path, "pymongo", "__init__.py")); err == nil {
		return interpreter, path
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", path, pymongo)
	if output, err := install.CombinedOutput(); err != nil {
		lack("install %s: %v\n%s", pymongo, err, output)
	}
	return interpreter, path
}

// verdict is what ledger.py says at its end.
type verdict struct {
	Driver       string   `json:"driver"`
	Acknowledged int      `json:"acknowledged"`
	Errors       []string `json:"errors"`
	ErrorCount   int      `json:"error_count"`
	Lost         int      `json:"lost"`
	LongestGapMS float64  `json:"longest_gap_ms"`
}

func TestPyMongoSurvivesTheSIGKILLOfThePrimaryWithoutAnError(t *testing.T) {
	interpreter, path := python(t)
	program, err := filepath.Abs(filepath.Join("testdata", "ledger.py"))
	if err != nil {
		t.Fatal(err)
	}
	l := labtest.New(t, labtest.Variant{Engine: "netns"}, 1000)
	l.Up()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := l.Command(ctx, "exec", "web-1", "--", "env", "PYTHONPATH="+path, interpreter, program,
		"127.0.0.1:5501", filepath.Join(l.State, "secrets", "web.password"), "10")
	var complaints strings.Builder
	client.Stderr = &complaints
	stdout, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Wait() }()
	output := bufio.NewReader(stdout)
	if line, err := output.ReadString('\n'); err != nil || line != "ready\n" {
		cancel()
		_ = client.Wait()
		t.Fatalf("PyMongo said %q, %v\n%s", line, err, complaints.String())
	}
	victim := primary(t, l)
	l.Must("fault", "kill", victim+"/mongod")
	rest, _ := io.ReadAll(output)
	var got verdict
	if err := json.Unmarshal(rest, &got); err != nil {
		t.Fatalf("PyMongo said %q, %v\n%s", rest, err, complaints.String())
	}
	t.Logf("PyMongo %s: %d acknowledged, longest gap %.0f ms", got.Driver, got.Acknowledged, got.LongestGapMS)
	if got.ErrorCount != 0 || got.Lost != 0 || got.Acknowledged == 0 {
		t.Errorf("%d errors (%v), %d lost of %d acknowledged", got.ErrorCount, got.Errors, got.Lost, got.Acknowledged)
	}
	if now := primary(t, l); now == victim {
		t.Errorf("%s is still primary: nothing was survived", now)
	}
}

// primary returns the node of the primary.
func primary(t *testing.T, l *labtest.Lab) string {
	t.Helper()
	for _, node := range l.Status().Nodes {
		for _, process := range node.Processes {
			if process.Role == "primary" {
				return node.Name
			}
		}
	}
	t.Fatal("nobody is primary")
	return ""
}
