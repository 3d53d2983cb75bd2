package consul

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/consul/api"
)

// ErrConflict means that an entry is no longer what it was when it was read:
// somebody else wrote or deleted it meanwhile. Nothing was changed.
var ErrConflict = errors.New("changed in Consul since it was read")

// ErrForbidden means that Consul's ACLs refuse what was asked.
var ErrForbidden = errors.New("refused by Consul's ACLs")

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

func serviceRule(name, policy string) string {
	return fmt.Sprintf("service %q { policy = %q }", name, policy)
}
