package site

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"sluice/web/blog"
)

const maxAdministrator = 64 // characters

// staff is what the page of the administrators shows.
type staff struct {
	All []blog.Administrator
	// Name is what was typed, or whom Password is for, which is shown this once.
	Name, Password string
	// Doubt is why it is not known whether that account exists; nil if it does.
	Doubt *Problem
}

// showAdministrators lists the administrators.
func (s *Site) showAdministrators(c echo.Context) error {
	return s.printAdministrators(c, http.StatusOK, staff{}, "")
}

func (s *Site) printAdministrators(c echo.Context, status int, shown staff, wrong string) error {
	page := s.paper(c, "Administrators")
	if wrong != "" {
		page.Wrong = map[string]string{"name": wrong}
	}
	ctx, cancel := s.soon(c, shown.Doubt)
	defer cancel()
	var err error
	if shown.All, err = s.desk(c).Administrators(ctx); err != nil && shown.Password == "" {
		return &untriedError{err}
	}
	page.Staff, page.Problem = &shown, shown.Doubt
	return s.print(c, status, "administrators", page)
}

// addAdministrator makes an account and shows its password, once.
func (s *Site) addAdministrator(c echo.Context) error {
	name := strings.TrimSpace(c.FormValue("name"))
	if wrong := checkAdministrator(name); wrong != "" {
		return s.printAdministrators(c, http.StatusBadRequest, staff{Name: name}, wrong)
	}
	password := rand.Text()
	err := s.cfg.Library.AddAdministrator(c.Request().Context(), s.user(c), name, password, s.cfg.Now())
	s.logChange(c, "add", name, err)
	switch {
	case errors.Is(err, blog.ErrNameTaken):
		return s.printAdministrators(c, http.StatusConflict, staff{Name: name}, "There is an administrator of this name.")
	case blog.OutcomeOf(err) == blog.Unknown:
		// Without its password the account would be of no use, and its name taken.
		doubt := s.outcome(c, err, "Whether the account is stored is not known. If it is, this is its password.", "")
		return s.printAdministrators(c, doubt.Status, staff{Name: name, Password: password, Doubt: doubt}, "")
	case err != nil:
		return err
	}
	return s.printAdministrators(c, http.StatusOK, staff{Name: name, Password: password}, "")
}

// checkAdministrator returns what is wrong with a new name, in words, or "". Names
// that look alike and are not the same would be a trap in a log.
func checkAdministrator(name string) string {
	if wrong := checkText("name", name, maxAdministrator, ""); wrong != "" {
		return wrong
	}
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_@") != "" {
		return "A name is lower-case letters, digits, and any of . - _ @"
	}
	return ""
}

// alterAdministrator returns the handler of a change to the account that the form
// names.
func (s *Site) alterAdministrator(what string, change func(ctx context.Context, by, name string) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		name := c.FormValue("name")
		if checkText("name", name, maxAdministrator, "") != "" {
			return blog.ErrNotFound
		}
		err := change(c.Request().Context(), s.user(c), name)
		s.logChange(c, what, name, err)
		if errors.Is(err, blog.ErrOneself) {
			return s.printAdministrators(c, http.StatusConflict, staff{}, "Nobody disables or deletes himself: another administrator must do that.")
		}
		if errors.Is(err, blog.ErrNotFound) {
			return s.printAdministrators(c, http.StatusNotFound, staff{}, "There is no such administrator, or no longer. Nothing was changed.")
		}
		if err != nil {
			return err
		}
		return c.Redirect(http.StatusSeeOther, s.cfg.Base+"/admin/administrators")
	}
}

// logChange writes down who changed which account, from where, and what became of it.
func (s *Site) logChange(c echo.Context, what, name string, err error) {
	log := s.logOf(c.Request().Context()).With("change", what, "name", name, "by", s.user(c), "address", clientAddress(c.Request()))
	switch outcome := blog.OutcomeOf(err); {
	case err == nil:
		log.Info("administrators changed")
	case outcome == blog.Acked:
		log.Warn("administrators changed", "outcome", outcome.String(), "err", err)
	default:
		log.Warn("administrators not changed", "outcome", outcome.String(), "err", err)
	}
}

func (s *Site) user(c echo.Context) string {
	user, _ := c.Get(userKey).(string)
	return user
}

func (s *Site) askPassword(c echo.Context) error {
	return s.printPassword(c, http.StatusOK, nil)
}

func (s *Site) printPassword(c echo.Context, status int, wrong map[string]string) error {
	page := s.paper(c, "Password")
	page.Wrong = wrong
	page.MinPassword = blog.MinPassword
	page.Temporary, _ = c.Get(temporaryKey).(bool)
	return s.print(c, status, "password", page)
}

// changePassword changes one's own password; every other login of the account ends.
func (s *Site) changePassword(c echo.Context) error {
	change := blog.PasswordChange{
		Name: s.user(c), Old: c.FormValue("old"), New: c.FormValue("new"), Address: clientAddress(c.Request()), Now: s.cfg.Now(),
	}
	if wrong := checkPassword(change, c.FormValue("again")); len(wrong) > 0 {
		return s.printPassword(c, http.StatusBadRequest, wrong)
	}
	secret, err := s.cfg.Library.ChangePassword(c.Request().Context(), change)
	s.logChange(c, "password", change.Name, err)
	switch {
	case errors.As(err, new(*blog.NoLoginError)):
		s.setSession(c, "", -1)
		page := s.paper(c, "Password changed")
		page.Changed, page.User, page.Draft.Author = true, "", change.Name
		return s.print(c, http.StatusOK, "login", page)
	case errors.Is(err, blog.ErrLogin):
		return s.printPassword(c, http.StatusForbidden, map[string]string{"old": "This is not your password."})
	case errors.Is(err, blog.ErrThrottled):
		s.retryLater(c)
		return s.printPassword(c, http.StatusTooManyRequests, map[string]string{"old": throttled})
	case errors.Is(err, blog.ErrConflict):
		return s.printPassword(c, http.StatusConflict, map[string]string{"old": "Your account was changed at the same moment. Nothing was saved."})
	case err != nil:
		return err
	}
	s.setSession(c, secret, int(blog.SessionFor.Seconds()))
	return c.Redirect(http.StatusSeeOther, s.cfg.Base+"/admin")
}

// checkPassword returns what is wrong with a new password, in words, by field.
func checkPassword(change blog.PasswordChange, again string) map[string]string {
	wrong := map[string]string{}
	if change.Old == "" {
		wrong["old"] = "The password that you have now is missing."
	}
	switch text := checkText("password", change.New, 1024, ""); {
	case text != "":
		wrong["new"] = text
	case len(change.New) > blog.MaxPassword:
		wrong["new"] = fmt.Sprintf("The password is %d bytes long; only %d of them would count, so it is not taken.", len(change.New), blog.MaxPassword)
	case utf8.RuneCountInString(change.New) < blog.MinPassword:
		wrong["new"] = fmt.Sprintf("The password is shorter than %d characters.", blog.MinPassword)
	case change.New == change.Old:
		wrong["new"] = "This is the password that you have now."
	case strings.EqualFold(change.New, change.Name):
		wrong["new"] = "This is your name."
	case change.New != again:
		wrong["again"] = "The two are not the same."
	}
	return wrong
}
