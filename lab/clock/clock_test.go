package clock_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/lab/clock"
	"sluice/lab/process"
)

// tell starts date under the clock and returns by how much it is wrong.
func tell(t *testing.T, c *clock.Clock) time.Duration {
	t.Helper()
	var out bytes.Buffer
	command := exec.CommandContext(t.Context(), "date", "+%s")
	command.Stdout = &out
	if err := c.Start(command); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Until(time.Unix(seconds, 0)).Round(time.Minute)
}

func TestAProgramSeesTheWrongTimeUntilTheClockIsRight(t *testing.T) {
	c := clock.New(process.Here{})
	if err := c.Set(time.Hour); errors.Is(err, clock.ErrNoLibrary) {
		if os.Getenv("SLUICE_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, offset := range []time.Duration{time.Hour, -time.Hour, 0} {
		if err := c.Set(offset); err != nil {
			t.Fatal(err)
		}
		if got := tell(t, c); got != offset || c.Offset() != offset {
			t.Errorf("the clock is off by %v, want %v", got, offset)
		}
	}
}
