package site

import (
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// What one visitor may leave without a login: so many at once, and then one in a while.
// The entries are on the administrators' list until somebody deletes them.
const (
	visitorBurst      = 30
	visitorsPerSecond = 0.5
	// visitorMemory is for how long an address is remembered.
	visitorMemory = 3 * time.Minute
)

func newVisitorLimit() *middleware.RateLimiterMemoryStore {
	return middleware.NewRateLimiterMemoryStoreWithConfig(middleware.RateLimiterMemoryStoreConfig{
		Rate: visitorsPerSecond, Burst: visitorBurst, ExpiresIn: visitorMemory,
	})
}

// limited returns why an entry is not taken now, with the form to send again, or nil.
func (s *Site) limited(c echo.Context, form Form) error {
	if allowed, err := s.visitors.Allow(visitorOf(c.Request())); err != nil || allowed {
		return err
	}
	c.Response().Header().Set("Retry-After", strconv.Itoa(1/visitorsPerSecond))
	return &badForm{status: http.StatusTooManyRequests, reason: "Too many entries came from your address. Nothing was stored; wait a moment and send it again.", form: form}
}

// visitorOf is by what visitors are told apart: the address, or the network that one
// has to himself in IPv6.
func visitorOf(r *http.Request) string {
	text := clientAddress(r)
	address, err := netip.ParseAddr(text)
	if err != nil || address.Unmap().Is4() {
		return text
	}
	network, _ := address.WithZone("").Prefix(64)
	return network.String()
}
