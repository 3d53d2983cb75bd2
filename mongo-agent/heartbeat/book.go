package heartbeat

import (
	"slices"
	"time"
)

// Peer is what is known about another agent.
type Peer struct {
	Node string `json:"node"`
	// Status is the newest that it has said; Known is false until it has said
	// anything. It is kept when the peer is lost.
	Status Status `json:"status"`
	Known  bool   `json:"known"`
	// Answered is when its newest answer arrived, Confirmed when the question to
	// that answer was sent.
	Answered  time.Time `json:"answered"`
	Confirmed time.Time `json:"confirmed"`
	// Promised is when its newest question arrived: whoever answers a question
	// promises not to take the asker for lost before the limit has passed.
	Promised time.Time `json:"promised"`
	// Lost says that it does not answer, since Since, for Reason.
	Lost   bool      `json:"lost"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
}

// View is what is known about all other agents at one moment, in the order of
// their configuration. It is immutable.
type View struct {
	Peers []Peer
}

// Peer returns what is known about a node's agent.
func (v View) Peer(node string) (Peer, bool) {
	for _, p := range v.Peers {
		if p.Node == node {
			return p, true
		}
	}
	return Peer{}, false
}

// Lost returns the nodes whose agents do not answer.
func (v View) Lost() []string {
	var lost []string
	for _, p := range v.Peers {
		if p.Lost {
			lost = append(lost, p.Node)
		}
	}
	return lost
}

// HighestTerm returns the highest election term that any other agent has spoken
// of, and its node; also a lost one's, because terms never fall.
func (v View) HighestTerm() (term int64, node string) {
	for _, p := range v.Peers {
		if known := max(p.Status.Term, p.Status.Highest); p.Known && known > term {
			term, node = known, p.Node
		}
	}
	return term, node
}

// Lease returns until when a majority of the agents has confirmed this one: the
// length of the lease after the moment in which the last question was sent that
// made a majority with its answer. Whoever answered has promised, later than that,
// not to take this agent for lost for as long (Peer.Promised), unless its process
// has ended. A set of one is confirmed by itself: until is then now plus the
// length.
func (v View) Lease(length time.Duration, now time.Time) (until time.Time) {
	needed := (len(v.Peers) + 1) / 2 // of the others: a majority without oneself
	if needed == 0 {
		return now.Add(length)
	}
	var confirmed []time.Time
	for _, p := range v.Peers {
		if !p.Confirmed.IsZero() {
			confirmed = append(confirmed, p.Confirmed)
		}
	}
	if len(confirmed) < needed {
		return time.Time{}
	}
	slices.SortFunc(confirmed, func(a, b time.Time) int { return b.Compare(a) })
	return confirmed[needed-1].Add(length)
}

// book is the pure part: observations and the clock go in, a View comes out. It
// is for one goroutine at a time.
type book struct {
	limit time.Duration
	peers []Peer
	// members are the nodes of the peers that the set has now; nil is all.
	members []string
	// looked is when tick was called last.
	looked time.Time
}

func newBook(nodes []string, limit time.Duration, now time.Time) *book {
	b := &book{limit: limit, looked: now}
	for _, node := range nodes {
		// Not lost yet: it gets the limit to answer for the first time.
		b.peers = append(b.peers, Peer{Node: node, Since: now, Answered: now, Reason: "it has not answered yet"})
	}
	return b
}

// view leaves out whoever is no member: it counts for no majority and for no loss.
func (b *book) view() View {
	if b.members == nil {
		return View{Peers: slices.Clone(b.peers)}
	}
	v := View{Peers: make([]Peer, 0, len(b.members))}
	for _, p := range b.peers {
		if slices.Contains(b.members, p.Node) {
			v.Peers = append(v.Peers, p)
		}
	}
	return v
}

// restrict makes nodes the members of the set. It reports whether that is news.
func (b *book) restrict(nodes []string) bool {
	if b.members != nil && slices.Equal(b.members, nodes) {
		return false
	}
	b.members = append([]string{}, nodes...)
	return true
}

func (b *book) find(node string) *Peer {
	for i := range b.peers {
		if b.peers[i].Node == node {
			return &b.peers[i]
		}
	}
	return nil
}

// answered takes the answer to a question that was sent at sent. It reports
// whether there is news.
func (b *book) answered(node string, sent, now time.Time, s Status) bool {
	p := b.find(node)
	if p == nil {
		return false
	}
	news := p.Lost || !p.Known
	if news {
		p.Since = now
	}
	p.Lost, p.Reason = false, ""
	news = p.learn(s) || news
	p.Answered = now
	if sent.After(p.Confirmed) {
		p.Confirmed = sent
	}
	return news
}

// told takes the status that came with a question. It is no sign that the peer can
// be reached; to answer it is a promise.
func (b *book) told(s Status, now time.Time) bool {
	p := b.find(s.Node)
	if p == nil {
		return false
	}
	p.Promised = now
	return p.learn(s)
}

// learn takes a status unless it is older than the one that is known. It reports
// whether there is news in it.
func (p *Peer) learn(s Status) bool {
	if p.Known && s.older(p.Status) {
		return false
	}
	news := !p.Known || !p.Status.equal(s)
	p.Known, p.Status = true, s
	return news
}

// unreachable takes note that nobody is there: the peer is lost without waiting,
// and no promise to it counts.
func (b *book) unreachable(node, reason string, now time.Time) bool {
	p := b.find(node)
	if p == nil {
		return false
	}
	news := !p.Lost
	if news {
		p.Lost, p.Since = true, now
	}
	p.Reason = reason
	return news
}

// tick looks who has been silent for too long. If the looks themselves stopped
// for a while, it was this process that did not run, and everybody gets the
// limit anew.
func (b *book) tick(now time.Time, paused time.Duration) bool {
	slept := now.Sub(b.looked) > paused
	b.looked = now
	news := false
	for i := range b.peers {
		p := &b.peers[i]
		if p.Lost {
			continue
		}
		if slept {
			p.Answered = now
			continue
		}
		if now.Sub(p.Answered) > b.limit && now.Sub(p.Promised) > b.limit {
			p.Lost, p.Since, p.Reason = true, now, "no answer for "+b.limit.String()
			news = true
		}
	}
	return news
}
