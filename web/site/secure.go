package site

import (
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// requestTimeout bounds a request, but for streams; a write may take blog.WriteTimeout
// once its sender is known.
const requestTimeout = 25 * time.Second

// secure sets the headers that tell a browser what an answer may do there.
func secure(policy string) echo.MiddlewareFunc {
	return middleware.SecureWithConfig(middleware.SecureConfig{
		ContentTypeNosniff: "nosniff", XFrameOptions: "DENY", ContentSecurityPolicy: policy,
		// Not "no-referrer": with it a browser sends a form with "Origin: null".
		ReferrerPolicy: "same-origin",
	})
}

// secured does so for every answer, refusals included. The topology page has a script,
// and no other page may have one.
func (s *Site) secured(next echo.HandlerFunc) echo.HandlerFunc {
	page := s.page.secure(next)
	if s.press == nil {
		return page
	}
	paper := s.press.secure(next)
	return func(c echo.Context) error {
		if s.ofPress(c.Request().URL.Path) {
			return paper(c)
		}
		return page(c)
	}
}

// bounded ends what takes too long. By itself Echo would make a fault of web's own of
// every database that has not answered in time.
func bounded() echo.MiddlewareFunc {
	return middleware.ContextTimeoutWithConfig(middleware.ContextTimeoutConfig{
		Timeout: requestTimeout, ErrorHandler: func(err error, _ echo.Context) error { return err },
	})
}
