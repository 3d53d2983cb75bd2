package accesslog

import "strings"

// Mask leaves secrets out of the paths and URLs of requests wherever they are
// shown: it does for one text what a Log does for its entries. The zero Mask
// leaves out nothing but user and password of a URL. It is safe for concurrent
// use.
type Mask struct{ names redactor }

// NewMask returns the Mask for parameters of these names; nil is DefaultSecrets.
func NewMask(names []string) Mask {
	if names == nil {
		names = DefaultSecrets()
	}
	return Mask{newRedactor(names)}
}

// Target returns a path, a path with a query, or a URL, decoded or not, with ***
// for the values of parameters that are secret: those of the query, and those of
// segments of the path, as in /a;token=x. A text without any is returned as it is.
func (m Mask) Target(target string) string {
	if !strings.ContainsAny(target, ";?&%") && !strings.Contains(target, "://") {
		return target
	}
	return string(m.names.append(nil, []byte(target)))
}
