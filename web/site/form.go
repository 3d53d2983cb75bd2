package site

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

const (
	// MaxTitle and MaxBody are in characters.
	MaxTitle = 120
	MaxBody  = 4000
	maxForm  = "64KiB"
)

// badForm is what is wrong with a form, with what was typed.
type badForm struct {
	status int
	reason string
	form   Form
}

func (b *badForm) Error() string { return b.reason }

func (b *badForm) problem() *Problem {
	return &Problem{Status: b.status, Kind: "form", Title: "The form was not taken", Reason: b.reason}
}

// readForm reads an entry from a form that our own page has sent. The check of
// the origin keeps other sites from posting in the name of whoever visits them.
func (s *Site) readForm(c echo.Context) (blog.Entry, Form, error) {
	r := c.Request()
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return blog.Entry{}, Form{}, &badForm{status: http.StatusForbidden, reason: "The form was sent from another site."}
	}
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/x-www-form-urlencoded" {
		return blog.Entry{}, Form{}, &badForm{status: http.StatusUnsupportedMediaType, reason: "The form must be sent as application/x-www-form-urlencoded."}
	}
	if err := r.ParseForm(); err != nil {
		var known *echo.HTTPError
		if errors.As(err, &known) {
			return blog.Entry{}, Form{}, known // too large
		}
		return blog.Entry{}, Form{}, &badForm{status: http.StatusBadRequest, reason: "The form cannot be read."}
	}
	if wrong := ambiguous(r.PostForm, r.URL.Query()); wrong != "" {
		return blog.Entry{}, Form{}, &badForm{status: http.StatusBadRequest, reason: wrong}
	}
	form := Form{
		ID:    r.PostForm.Get("id"),
		Title: strings.TrimSpace(r.PostForm.Get("title")),
		Body:  strings.TrimSpace(strings.ReplaceAll(r.PostForm.Get("body"), "\r\n", "\n")),
	}
	if form.ID == "" && !wantsHTML(r) {
		form.ID = newID() // a program that gives no ID forgoes safe repetition
	}
	if wrong := checkForm(form); wrong != "" {
		return blog.Entry{}, form, &badForm{status: http.StatusBadRequest, reason: wrong, form: form}
	}
	now := s.cfg.Now().UTC().Truncate(time.Millisecond) // as fine as the database keeps it
	return blog.Entry{
		ID: form.ID, Title: form.Title, Body: form.Body, Created: now, Via: s.cfg.Instance,
		Blog: blog.Visitors, Slug: form.ID, Updated: now, Revision: 1,
	}, form, nil
}

// checkForm returns what is wrong with the form, in words for its author, or "".
func checkForm(form Form) string {
	if !isID(form.ID) {
		return "The form has no valid ID. Open the page anew and write the entry there."
	}
	if wrong := checkText("title", form.Title, MaxTitle, ""); wrong != "" {
		return wrong
	}
	return checkText("text", form.Body, MaxBody, "\n\t")
}

// isID reports whether id has the form of newID.
func isID(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}

func checkText(name, text string, most int, controls string) string {
	switch {
	case text == "":
		return fmt.Sprintf("The %s is missing.", name)
	case !utf8.ValidString(text):
		return fmt.Sprintf("The %s is not valid text.", name)
	case utf8.RuneCountInString(text) > most:
		return fmt.Sprintf("The %s is longer than %d characters.", name, most)
	}
	for _, r := range text {
		if unicode.IsControl(r) && !strings.ContainsRune(controls, r) {
			return fmt.Sprintf("The %s holds a control character.", name)
		}
	}
	return ""
}
