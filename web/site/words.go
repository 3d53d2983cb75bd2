package site

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

// spoken is an error that knows what a page says of it.
type spoken interface {
	error
	problem() *Problem
}

// inWords is what a page says of an error of ours, or of Echo's; nil for one that comes
// of the database or of the way to it.
func inWords(err error) *Problem {
	var own spoken
	var refused blog.Refusal
	var known *echo.HTTPError
	switch p := configurationProblem(err); {
	case p != nil:
		return p
	case errors.As(err, &own):
		return own.problem()
	case errors.As(err, &refused):
		return refusalProblem(refused)
	case errors.As(err, &known):
		return httpProblem(known)
	case errors.Is(err, errRender):
		return brokenProblem()
	default:
		return nil
	}
}

// refusalProblem is what a page says of a refusal where its own form has no better words.
// None of them is a fault of this instance, which a status from 500 on would say.
func refusalProblem(refused blog.Refusal) *Problem {
	switch refused {
	case blog.ErrTaken:
		return &Problem{
			Status: http.StatusConflict, Kind: "taken", Title: "This form was used before",
			Reason: "Another entry was already stored from this form.", Hint: "Open the page anew and write the entry there.",
		}
	case blog.ErrSlugTaken:
		return &Problem{Status: http.StatusConflict, Kind: "taken", Title: "This address is taken", Reason: "Something else has this address."}
	case blog.ErrConflict:
		return &Problem{Status: http.StatusConflict, Kind: "conflict", Title: "Somebody else was faster", Reason: "This was changed at the same moment."}
	case blog.ErrNotFound:
		return &Problem{Status: http.StatusNotFound, Kind: "request", Title: "Not found", Reason: "There is no such page here, or no longer."}
	case blog.ErrNoBlog:
		return &Problem{Status: http.StatusConflict, Kind: "no_blog", Title: "There is no such blog", Reason: "There is no such blog, or no longer."}
	case blog.ErrLogin:
		return &Problem{Status: http.StatusForbidden, Kind: "login", Title: "Not let in", Reason: "Name or password is wrong."}
	case blog.ErrThrottled:
		return &Problem{
			Status: http.StatusTooManyRequests, Kind: "throttled", Title: "Too many failed logins", Again: int(blog.AttemptsFor.Seconds()),
			Reason: throttled,
		}
	case blog.ErrNameTaken:
		return &Problem{Status: http.StatusConflict, Kind: "taken", Title: "This name is taken", Reason: "There is an administrator of this name."}
	case blog.ErrOneself:
		return &Problem{
			Status: http.StatusConflict, Kind: "oneself", Title: "Nobody disables or deletes himself",
			Reason: "Another administrator must do that.",
		}
	case blog.ErrNotActive:
		return &Problem{Status: http.StatusForbidden, Kind: "form", Title: "You may no longer do this", Reason: "Another administrator has just disabled or deleted your account."}
	default:
		return &Problem{Status: http.StatusConflict, Kind: "refused", Title: "This was refused", Reason: fmt.Sprintf("It was refused: %s.", refused)}
	}
}

// httpProblem is what a page says of an error of Echo's.
func httpProblem(known *echo.HTTPError) *Problem {
	switch {
	case known.Code >= http.StatusInternalServerError:
		return brokenProblem()
	case known.Code == http.StatusForbidden:
		return &Problem{
			Status: known.Code, Kind: "form", Title: "The form was not taken",
			Reason: "The form was sent from another site, or its page is too old.", Hint: "Go back, open the page anew and send it again.",
		}
	case known.Code == http.StatusMethodNotAllowed:
		return methodProblem()
	case known.Code == http.StatusRequestEntityTooLarge:
		return &Problem{Status: known.Code, Kind: "request", Title: http.StatusText(known.Code), Reason: "The form is too large."}
	default:
		return &Problem{Status: known.Code, Kind: "request", Title: http.StatusText(known.Code), Reason: "There is no such page here, or no longer."}
	}
}

// brokenProblem is what a page says of a fault of web's own.
func brokenProblem() *Problem {
	return &Problem{
		Status: http.StatusInternalServerError, Kind: "internal", Title: "Something is wrong in web",
		Reason: "The page cannot be made. The log has the reason.", Command: "sluice logs",
	}
}

// deletedEntry and deletedBlog are what a form says of a change to what is deleted.
func deletedEntry() *Problem {
	return &Problem{
		Status: http.StatusGone, Kind: "gone", Title: "Somebody has deleted this entry",
		Reason: "Nothing was saved. Your text is below: undo the deletion, or copy it into a new entry.",
	}
}

func deletedBlog() *Problem {
	return &Problem{
		Status: http.StatusGone, Kind: "gone", Title: "Somebody has deleted this blog",
		Reason: "Nothing was saved. What you typed is below: undo the deletion, or use it for a new blog.",
	}
}

// gone is the refusal of what was deleted: why it cannot be had back.
type gone struct {
	status        int
	title, reason string
}

func (g *gone) Error() string { return g.title }

func (g *gone) problem() *Problem {
	return &Problem{Status: g.status, Kind: "gone", Title: g.title, Reason: g.reason + " Nothing was changed."}
}

// undoing is an error of an undo with the words for it.
func undoing(err error) error {
	switch {
	case errors.Is(err, blog.ErrNotFound):
		return &gone{http.StatusGone, "It is too late", "What is deleted can be had back for a minute."}
	case errors.Is(err, blog.ErrNoBlog):
		return &gone{http.StatusConflict, "Its blog is deleted, too", "The entry can be had back once its blog is there again: undo the deletion of the blog first."}
	case errors.Is(err, blog.ErrSlugTaken):
		return &gone{http.StatusConflict, "Its address is taken", "Another entry has this address since. Give that one another address first."}
	default:
		return err
	}
}
