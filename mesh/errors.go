package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"

	"sluice/identity"
	"sluice/intentions"
)

// The reasons for which the mesh refuses or fails, for errors.Is.
var (
	// ErrDenied means that intentions do not allow the connection. The error is
	// always a *DeniedError.
	ErrDenied = errors.New("denied by intentions")
	// ErrNoInstance means that the service has no healthy instance.
	ErrNoInstance = errors.New("no healthy instance")
	// ErrNotReady means that this process has no valid identity at this moment:
	// no leaf yet, no roots yet, or a leaf that has expired.
	ErrNotReady = errors.New("identity not ready")
	// ErrWrongIdentity means that somebody answered with a believable
	// certificate of another identity. The error is always a
	// *WrongIdentityError.
	ErrWrongIdentity = errors.New("wrong identity")
	// ErrTimeout means that a step did not end before its deadline.
	ErrTimeout = errors.New("timed out")
)

// Who said no, for DeniedError.By.
const (
	// BySource is our own snapshot of the intentions, before dialling.
	BySource = "source"
	// ByDestination is the service at the other end.
	ByDestination = "destination"
)

// DeniedError says which decision refused a connection and who took it.
type DeniedError struct {
	Decision intentions.Decision
	// By is BySource or ByDestination.
	By string
}

// Error returns one sentence, for example
// "denied by intention web -> mongo-primary".
func (e *DeniedError) Error() string {
	if e.By == ByDestination && (e.Decision.Allowed || e.Decision.Rule == nil) {
		return fmt.Sprintf("denied by the destination: %s -> %s", e.Decision.Source, e.Decision.Destination)
	}
	return e.Decision.String()
}

// Is reports whether target is ErrDenied.
func (e *DeniedError) Is(target error) bool { return target == ErrDenied }

// WrongIdentityError says who should have answered and who did.
type WrongIdentityError struct {
	Want, Got identity.ID
}

// Error returns one sentence with both identities.
func (e *WrongIdentityError) Error() string {
	return fmt.Sprintf("wrong identity: expected %s, but %s answered", e.Want, e.Got)
}

// Is reports whether target is ErrWrongIdentity.
func (e *WrongIdentityError) Is(target error) bool { return target == ErrWrongIdentity }

// withTimeout adds ErrTimeout to an error that a deadline caused.
func withTimeout(err error) error {
	if err == nil || errors.Is(err, ErrTimeout) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}

// The TLS alerts that tell why a peer refused (RFC 8446, section 6.2).
const (
	alertBadCertificate        = tls.AlertError(42)
	alertNoApplicationProtocol = tls.AlertError(120)
)

// isRemoteAlert reports whether err is the given alert, sent by the peer.
// crypto/tls keeps its alert type to itself, so that the operation and the text
// are what there is to compare.
func isRemoteAlert(err error, alert tls.AlertError) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && op.Err != nil && op.Err.Error() == alert.Error()
}
