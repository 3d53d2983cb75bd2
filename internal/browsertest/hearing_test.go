package browsertest

import (
	"fmt"
	"testing"
)

// hearing is a test whose failures are kept instead of reported.
type hearing struct {
	testing.TB
	said []string
}

func (h *hearing) Errorf(format string, values ...any) {
	h.said = append(h.said, fmt.Sprintf(format, values...))
}
