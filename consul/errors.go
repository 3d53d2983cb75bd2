package consul

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

// ErrConflict means that an entry is no longer what it was when it was read:
// somebody else wrote or deleted it meanwhile. Nothing was changed.
var ErrConflict = errors.New("changed in Consul since it was read")

// ErrForbidden means that Consul's ACLs refuse what was asked.
var ErrForbidden = errors.New("refused by Consul's ACLs")

// What an answer is that cannot be Consul's. Nothing of one is believed.
var (
	errNull    = errors.New("the answer is not Consul's: it has a null in a list")
	errNoIndex = errors.New("answer without an index")
	errOther   = errors.New("the answer is not Consul's: it has what was not asked for, or nothing")
)

// whole refuses an answer with a null in a list: Consul has none there.
func whole[T any](list []*T) error {
	if slices.Contains(list, nil) {
		return errNull
	}
	return nil
}

// indexed refuses an answer without an index: Consul says 1 where it has none.
func indexed(meta *api.QueryMeta) error {
	if meta == nil || meta.LastIndex == 0 {
		return errNoIndex
	}
	return nil
}

// explain turns an answer of Consul into an error that a person can act on. need
// is the ACL rule that what was attempted takes, in HCL.
func explain(attempt, need string, err error) error {
	if err == nil {
		return nil
	}
	status, ok := statusOf(err)
	switch {
	case ok && status.Code == http.StatusForbidden && strings.Contains(status.Body, "ACL not found"):
		return fmt.Errorf("%s: %w: the agent does not know the token (it was deleted, or has not been replicated here yet)", attempt, ErrForbidden)
	case ok && status.Code == http.StatusForbidden:
		return fmt.Errorf("%s: %w: add to the token's policy: %s (Consul says: %s)", attempt, ErrForbidden, need, status.Body)
	default:
		return fmt.Errorf("%s: %w", attempt, err)
	}
}

func statusOf(err error) (api.StatusError, bool) {
	var status api.StatusError
	ok := errors.As(err, &status)
	return status, ok
}

func isNotFound(err error) bool {
	status, ok := statusOf(err)
	return ok && status.Code == http.StatusNotFound
}

// isNoEntry reports whether Consul, and not somebody in its place, says that there is no
// such config entry.
func isNoEntry(err error) bool {
	status, ok := statusOf(err)
	return ok && status.Code == http.StatusNotFound && strings.Contains(status.Body, "Config entry not found")
}

func serviceRule(name, policy string) string {
	return fmt.Sprintf("service %q { policy = %q }", name, policy)
}
