// Package throttle limits bytes per second over time.
package throttle

import (
	"math"
	"time"
)

// Unlimited is the rate of a Bucket that limits nothing.
const Unlimited = math.MaxInt64

// burst is for how long a Bucket that nobody takes from saves up.
const burst = time.Second

// Bucket lets so many bytes a second pass in the long run. What passes at once
// may be more, and is waited for afterwards. Its zero value lets nothing pass.
// It has one owner at a time.
type Bucket struct {
	rate int64 // bytes per second
	have float64
	at   time.Time // of have
}

// SetRate changes the rate, in bytes per second, from now on.
func (b *Bucket) SetRate(now time.Time, rate int64) {
	b.fill(now)
	b.rate = rate
	b.have = min(b.have, b.most())
}

// Rate is the rate in bytes per second.
func (b *Bucket) Rate() int64 { return b.rate }

func (b *Bucket) most() float64 { return float64(b.rate) * burst.Seconds() }

// fill adds what has come since. A clock that goes back adds nothing.
func (b *Bucket) fill(now time.Time) {
	passed := now.Sub(b.at)
	switch {
	case b.at.IsZero():
		b.at = now
	case passed > 0:
		// Converted, so that no processor multiplies and adds in one: all get the same.
		b.have, b.at = min(b.have+float64(float64(b.rate)*passed.Seconds()), b.most()), now
	}
}

// Wait is after how long something may pass, or it is worth asking again, for
// the rate may be another then; 0: it may now.
func (b *Bucket) Wait(now time.Time) time.Duration {
	b.fill(now)
	if b.rate == Unlimited || b.have > 0 {
		return 0
	}
	const longest = time.Second
	if b.rate <= 0 {
		return longest
	}
	// One byte has to be there.
	return min(longest, max(time.Millisecond, time.Duration((1-b.have)/float64(b.rate)*float64(time.Second))))
}

// Take notes that so many bytes pass; a negative number gives some back.
func (b *Bucket) Take(now time.Time, bytes int) {
	b.fill(now)
	if b.rate != Unlimited {
		b.have = min(b.have-float64(bytes), b.most())
	}
}
