package errorpages

import "time"

// Change is what the folder has come to after the start.
type Change struct {
	// Added, Removed and Altered name files. All are empty where a problem is over and the
	// folder holds what was used all the while.
	Added, Removed, Altered []string
	// Problem says why what the folder holds now is not used; nil if it is.
	Problem error
	// Took is from the look at the folder until all went by it.
	Took time.Duration
}

// changeOf compares two lists of files in the order of their names.
func changeOf(before, after []source, took time.Duration) *Change {
	c := &Change{Took: took}
	texts := map[string]string{}
	for _, s := range before {
		texts[s.name] = s.text
	}
	for _, s := range after {
		text, known := texts[s.name]
		switch {
		case !known:
			c.Added = append(c.Added, s.name)
		case text != s.text:
			c.Altered = append(c.Altered, s.name)
		}
		delete(texts, s.name)
	}
	for _, s := range before {
		if _, gone := texts[s.name]; gone {
			c.Removed = append(c.Removed, s.name)
		}
	}
	return c
}
