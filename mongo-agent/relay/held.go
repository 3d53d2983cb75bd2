package relay

import (
	"errors"
	"io"
	"sync"
	"time"

	"sluice/mesh"
)

var errEnded = errors.New("the member has ended the connection")

// held is a connection to another member whose end is kept back for a while. What
// the member has sent before comes through at once.
type held struct {
	*mesh.Conn
	limit    time.Duration
	released <-chan struct{}

	once  sync.Once
	ended chan struct{} // closed when this side has no more use for it
}

// Read reads from the member; the end is told late.
func (h *held) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if err == nil || n > 0 {
		return n, err
	}
	timer := time.NewTimer(h.limit)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.released:
	case <-h.ended:
	}
	if errors.Is(err, io.EOF) {
		// What was held back is over: a half-close would leave the other half open.
		err = errEnded
	}
	return 0, err
}

// CloseWrite tells the member that the own mongod has nothing more to say; then
// the member's end is no surprise.
func (h *held) CloseWrite() error {
	h.end()
	return h.Conn.CloseWrite()
}

// Close closes both directions.
func (h *held) Close() error {
	h.end()
	return h.Conn.Close()
}

// SetLinger comes before a Close that must not say goodbye.
func (h *held) SetLinger(int) error {
	h.end()
	h.Conn.Cut("the other side was reset")
	return nil
}

func (h *held) end() { h.once.Do(func() { close(h.ended) }) }
