package site

import (
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

const serverTiming = "Server-Timing"

// timed tells with each page how long it took to make, and how much of that were
// commands to the database (W3C Server Timing, in milliseconds). A form's answer
// does not tell, because that of a login says something about its password.
func (s *Site) timed(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if method := c.Request().Method; method != http.MethodGet && method != http.MethodHead {
			return next(c)
		}
		start, ctx := s.cfg.Now(), blog.Timed(c.Request().Context())
		c.SetRequest(c.Request().WithContext(ctx))
		c.Response().Before(func() {
			c.Response().Header().Set(serverTiming, fmt.Sprintf("db;dur=%.3f, total;dur=%.3f", milliseconds(blog.Spent(ctx)), milliseconds(s.cfg.Now().Sub(start))))
		})
		return next(c)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
