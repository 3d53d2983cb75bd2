package auth

import (
	"errors"
	"fmt"
	"strings"
)

// Scheme is a named file of users, for the tag option auth=NAME.
type Scheme struct {
	Name string
	// File is the path of a password file, lines of USER:BCRYPT-HASH.
	File string
	// Realm is what a browser shows when it asks for a password; "" is Name.
	Realm string
}

// ParseScheme reads the form that Fabio's property proxy.auth has:
// "name=staff;type=basic;file=/etc/staff.htpasswd;realm=Staff". type and realm
// may be missing; a part that is not known is an error.
func ParseScheme(text string) (Scheme, error) {
	var s Scheme
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ";") {
		key, value, found := strings.Cut(part, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if key == "" && !found {
			continue
		}
		if !found || value == "" {
			return Scheme{}, fmt.Errorf("parse auth scheme: %q has no value", key)
		}
		if seen[key] {
			return Scheme{}, fmt.Errorf("parse auth scheme: %q is given twice", key)
		}
		seen[key] = true
		switch key {
		case "name":
			s.Name = value
		case "file":
			s.File = value
		case "realm":
			s.Realm = value
		case "type":
			if value != "basic" {
				return Scheme{}, fmt.Errorf("parse auth scheme: type %q is unknown; want basic", value)
			}
		default:
			return Scheme{}, fmt.Errorf("parse auth scheme: %q is unknown; want name, file, realm or type", key)
		}
	}
	return s, s.validate()
}

func (s Scheme) validate() error {
	switch {
	case s.Name == "":
		return errors.New("auth scheme: it has no name")
	case s.File == "":
		return fmt.Errorf("auth scheme %s: it has no file", s.Name)
	case strings.ContainsFunc(s.Realm, isControl):
		return fmt.Errorf("auth scheme %s: its realm holds a control character", s.Name)
	}
	return nil
}

// challenge returns the value of WWW-Authenticate (RFC 7617, section 2).
func (s Scheme) challenge() string {
	realm := s.Realm
	if realm == "" {
		realm = s.Name
	}
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(realm)
	return `Basic realm="` + quoted + `", charset="UTF-8"`
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
