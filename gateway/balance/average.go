package balance

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// decay is the time in which an average forgets all but 1/e of what it knew;
	// Finagle's and Linkerd's default for peak EWMA.
	decay = 10 * time.Second
	// tickBits makes a tick of 2^22 ns, 4.2 ms: 31 bits of ticks are 104 days,
	// beyond which an average that was never touched looks young again.
	tickBits = 22
	decayAt  = float32(decay >> tickBits)
	// failureStep is the weight of one outcome in the rate of failures.
	failureStep = 1.0 / 16
	// failurePenalty is how many times as loaded an endpoint counts if all its
	// requests fail. One failure in a thousand makes it 5 % heavier, which is noise;
	// a third makes it avoided.
	failurePenalty = 50
	// failurePrice is the latency, in microseconds, that an endpoint is believed to have
	// beside its own if all its requests fail: who fails a hundred times as fast as others
	// answer is not the fastest. It counts by the fourth power of the rate, so that a
	// failure among successes costs next to nothing.
	failurePrice = 1_000_000
)

// stamped is a number and the tick when it was true, in one word, so that both
// change at once without a lock. The zero word is that nothing is known.
type stamped struct{ word atomic.Uint64 }

func tickOf(now int64) uint32 { return uint32(now >> tickBits) }

func pack(value float32, tick uint32) uint64 {
	return uint64(math.Float32bits(value))<<32 | uint64(tick)
}

func unpack(word uint64, tick uint32) (value, age float32) {
	value = math.Float32frombits(uint32(word >> 32))
	if ticks := int32(tick - uint32(word)); ticks > 0 {
		age = float32(ticks)
	}
	return value, age
}

func fade(age float32) float32 {
	if age == 0 {
		return 1
	}
	return float32(math.Exp(float64(-age / decayAt)))
}

// read returns the number as it was written last, and what is left of it now.
func (s *stamped) read(now int64) (last, faded float32) {
	word := s.word.Load()
	if word == 0 {
		return 0, 0
	}
	value, age := unpack(word, tickOf(now))
	return value, value * fade(age)
}

// latency is a peak EWMA: a slower sample is believed at once, a faster one by
// the time since the last.
type latency struct{ stamped }

// observe adds a sample in microseconds. Within one tick only a new peak is
// written, so that a busy endpoint costs one write per tick and not per request.
func (l *latency) observe(now int64, sample float32) {
	tick := tickOf(now)
	for {
		word := l.word.Load()
		last, age := unpack(word, tick)
		next := sample
		switch {
		case word == 0:
		case sample <= last && age == 0:
			return
		case sample <= last:
			w := fade(age)
			next = last*w + sample*(1-w)
		case age == 0: // a peak, maybe by a clock that is a little behind
			tick = uint32(word)
		}
		if l.word.CompareAndSwap(word, pack(next, tick)) {
			return
		}
	}
}

// raise adds the sample of a failure, which may make the endpoint slower but
// never faster: else those who fail fast would be preferred.
func (l *latency) raise(now int64, sample float32) {
	if last, _ := l.read(now); sample > last {
		l.observe(now, sample)
	}
}

// failures is the rate of failures among the last outcomes, from 0 to 1.
type failures struct{ stamped }

func (f *failures) observe(now int64, failed bool) {
	for {
		word := f.word.Load()
		if word == 0 && !failed {
			return
		}
		tick := tickOf(now)
		rate, age := unpack(word, tick)
		if age == 0 && word != 0 {
			tick = uint32(word)
		}
		rate *= fade(age)
		rate -= rate * failureStep
		if failed {
			rate += failureStep
		}
		next := pack(rate, tick)
		if rate < 1e-4 {
			next = 0
		}
		if f.word.CompareAndSwap(word, next) {
			return
		}
	}
}

// load is what the peak EWMA strategy compares: the latency that one more request
// may expect behind those in flight, made worse by failures. An endpoint of which
// nothing is known counts as idle until it has one request in flight, and then
// as one to leave alone until that is answered. An old estimate fades, so that an
// endpoint once slow is tried again, but only for the first request: while that
// is out, the last estimate holds.
func (e *Endpoint) load(now int64) float32 {
	inFlight := float32(e.inFlight.Load())
	slow, slowNow := e.latency.read(now)
	failing, failingNow := e.failures.read(now)
	if inFlight <= 0 {
		return penalized(slowNow, failingNow)
	}
	if slow == 0 {
		return math.MaxFloat32
	}
	return penalized(slow, failing) * (inFlight + 1)
}

// penalized is a latency, made worse by the rate of failures.
func penalized(latency, failing float32) float32 {
	if failing == 0 {
		return latency
	}
	return latency*(1+failurePenalty*failing) + failurePrice*failing*failing*failing*failing
}

func microseconds(d time.Duration) float32 {
	return max(1, float32(d)/float32(time.Microsecond))
}
