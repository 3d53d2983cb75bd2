package markdown

import (
	"crypto/sha256"
	"sync"
)

// maxMemory bounds what is remembered, in bytes.
const maxMemory = 8 << 20

// entryCost is about what the map needs for one text beside what was made of it.
const entryCost = 128

// question is a text, by its hash, and what is to be made of it: an excerpt of at
// most limit characters, or HTML where limit is 0. Texts and not entries are
// remembered, so that nothing has to be forgotten when an entry changes.
type question struct {
	text  [sha256.Size]byte
	limit int
}

// memory remembers what was made of texts, since the same ones are read again and
// again. When it is full it forgets everything: what is in use is made anew. It is
// safe for concurrent use; two that ask at once may both make it.
type memory struct {
	mu    sync.Mutex
	made  map[question]string
	bytes int
}

func (m *memory) get(q question) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	made, ok := m.made[q]
	return made, ok
}

func (m *memory) put(q question, made string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.made[q]; known {
		return
	}
	cost := len(made) + entryCost
	if m.made == nil || m.bytes+cost > maxMemory {
		m.made, m.bytes = map[question]string{}, 0
	}
	m.made[q] = made
	m.bytes += cost
}
