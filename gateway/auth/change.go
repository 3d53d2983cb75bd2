package auth

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// Change is what a password file has come to after the start. It names no user: who
// knows one lacks the password alone.
type Change struct {
	// Scheme is whose file it is.
	Scheme string
	// Users is how many there are now; Added, Removed and Altered count those who are new,
	// who are gone, and who have another password. All three are 0 where a problem is over
	// and the file holds what was used all the while.
	Users, Added, Removed, Altered int
	// Problem says why what the file holds now is not used; nil if it is.
	Problem error
	// Took is from the look at the file until all went by it.
	Took time.Duration
}

// changeOf compares the users before with those after.
func changeOf(scheme string, before, after *known, took time.Duration) Change {
	c := Change{Scheme: scheme, Users: len(after.hashes), Took: took}
	for user, hash := range after.hashes {
		old, there := before.hashes[user]
		switch {
		case !there:
			c.Added++
		case !bytes.Equal(old, hash):
			c.Altered++
		}
	}
	for user := range before.hashes {
		if _, there := after.hashes[user]; !there {
			c.Removed++
		}
	}
	return c
}

// String says in words what is different.
func (c Change) String() string {
	if c.Problem != nil {
		return c.Problem.Error()
	}
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{{c.Added, "new"}, {c.Removed, "gone"}, {c.Altered, "with another password"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	if len(parts) == 0 {
		parts = []string{"as before"}
	}
	return fmt.Sprintf("users: %d (%s)", c.Users, strings.Join(parts, ", "))
}
