package tag

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

func redirect(value string) (int, string, error) {
	code, target, _ := strings.Cut(value, ",")
	switch code {
	case "301", "302", "303", "307", "308":
	default:
		return 0, "", errors.New("want CODE,URL with code 301, 302, 303, 307 or 308")
	}
	for _, c := range []byte(target) {
		if c <= ' ' || c >= 0x7f || c == '\\' || c == '"' || c == '<' || c == '>' {
			return 0, "", fmt.Errorf("the URL holds %q", c)
		}
	}
	plain := strings.NewReplacer("$path", "", "$host", "host").Replace(target)
	if strings.Contains(plain, "$") {
		return 0, "", errors.New("the URL holds a $ that is neither $path nor $host")
	}
	u, err := url.Parse(plain)
	absolute := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
	local := err == nil && u.Scheme == "" && u.Host == "" && (strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "//"))
	if !absolute && !local && target != "$path" {
		return 0, "", errors.New("want a URL with http or https, or a path, with $path and $host in it where needed")
	}
	n, _ := strconv.Atoi(code)
	return n, target, nil
}

// leadsToItself reports whether a redirect leads every client to the route that it
// is declared on, whatever other routes there are. Where that depends on them, on
// the request or on the scheme, it is false.
func leadsToItself(key Key, o *Options) bool {
	rest := o.RedirectURL
	if host, ok := strings.CutPrefix(rest, "http://"); ok {
		end := strings.IndexAny(host+"/", "/?#")
		if at := strings.Index(host, "$path"); at >= 0 {
			end = min(end, at)
		}
		name := strings.TrimSuffix(strings.ToLower(host[:end]), ":80")
		if name == "$host" && strings.HasSuffix(key.Host, ":443") {
			return false
		}
		if name != "$host" && (key.Host == "" || name != strings.TrimSuffix(key.Host, ":80")) {
			return false
		}
		rest = host[end:]
	}
	switch {
	case strings.Contains(rest, "://") || o.Strip != "":
		return false
	case rest == "$path" || rest == "/$path":
		return true
	case strings.Contains(rest, "$"):
		return false
	}
	u, err := url.Parse(rest)
	if err != nil || key.Match == Glob {
		return false
	}
	return u.Path == key.Path || u.Path == "" && key.Path == "/"
}
