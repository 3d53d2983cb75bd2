package site

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

// place tells a query where in the list a request wants to be: "before" or "after" a
// mark, or at a "page" that is counted from 1, as older addresses have it. What
// cannot be read is the newest page.
func place(c echo.Context, query *blog.Query) error {
	if mark, ok := parseMark(c.QueryParam("before")); ok {
		query.Before = &mark
		return nil
	}
	if mark, ok := parseMark(c.QueryParam("after")); ok {
		query.After = &mark
		return nil
	}
	number, err := strconv.ParseInt(c.QueryParam("page"), 10, 64)
	if err == nil && number > maxPage {
		return &badPage{}
	}
	if err == nil && number > 1 {
		query.Skip = (number - 1) * perPage
	}
	return nil
}

// badPage means that an address counts further than pages are counted.
type badPage struct{}

func (*badPage) Error() string { return "pages are not counted so far" }

func (*badPage) problem() *Problem {
	return &Problem{
		Status: http.StatusNotFound, Kind: "request", Title: "Pages are not counted so far",
		Reason: "Pages have numbers up to " + strconv.Itoa(maxPage) + " only. Older entries are reached with “Older” from the newest page, or by a search.",
	}
}

// parseMark reads what markText writes: milliseconds since 1970, a dot, and an ID.
func parseMark(text string) (blog.Mark, bool) {
	created, id, ok := strings.Cut(text, ".")
	ms, err := strconv.ParseInt(created, 10, 64)
	if !ok || err != nil || checkText("ID", id, maxID, "") != "" {
		return blog.Mark{}, false
	}
	return blog.Mark{Created: time.UnixMilli(ms).UTC(), ID: id}, true
}

func markText(m blog.Mark) string {
	return strconv.FormatInt(m.Created.UnixMilli(), 10) + "." + m.ID
}

// pageAddress is the address of the page on one side of a mark, "before" or "after";
// side "" is the newest page.
func pageAddress(path, search, side string, mark blog.Mark) string {
	values := url.Values{}
	if search != "" {
		values.Set("q", search)
	}
	if side != "" {
		values.Set(side, markText(mark))
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}
