package proxy

import (
	"errors"
	"fmt"
	"time"

	"sluice/mesh"
)

// impostor is somebody else at the address of an instance. That says nothing about the
// instance's health, so it is picked all the same, and its requests are refused; people
// who ask why have to be told.
type impostor struct {
	who string
	at  time.Time
}

// identify keeps what an attempt has shown of who is at the address.
func (t *target) identify(err error, now time.Time) {
	if err == nil {
		if t.impostor.Load() != nil {
			t.impostor.Store(nil)
		}
		return
	}
	var wrong *mesh.WrongIdentityError // here, so that a request that goes well allocates nothing
	if errors.As(err, &wrong) {
		t.impostor.Store(&impostor{nobody(wrong.Got), now})
	}
}

// impostorText says who has answered at the address of an instance; "" if it was the
// instance, or nobody has asked yet.
func (t *target) impostorText() string {
	i := t.impostor.Load()
	if i == nil {
		return ""
	}
	return fmt.Sprintf("wrong identity: %s answered at its address at %s", i.who, i.at.UTC().Format(time.TimeOnly))
}
