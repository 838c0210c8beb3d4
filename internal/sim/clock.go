package sim

import (
	"fmt"
	"time"
	"unsafe"
)

// clock is what a node takes for the time. Its monotonic reading runs at a
// rate of its own, its wall clock may be anywhere and be stepped.
type clock struct {
	rate float64       // of the monotonic reading against true time
	wall time.Duration // of the wall clock before the monotonic reading, with steps
}

// differs says whether its wall clock is off by more than a moment.
func (c clock) differs() bool { return c.wall < -time.Second || c.wall > time.Second }

// epoch is the wall clock of a world at its beginning, in Unix nanoseconds.
const epoch = 1_800_000_000 * int64(time.Second)

func (c *clock) mono(t instant) int64 { return int64(float64(t) * c.rate) }

// time is the node's time at a moment.
func (c *clock) time(t instant) time.Time {
	m := c.mono(t)
	return stamp(epoch+m+int64(c.wall), m)
}

// when is the first moment, from now on, at which the node's time is not
// before t.
func (c *clock) when(now instant, t time.Time) instant {
	d := t.Sub(c.time(now))
	if d <= 0 {
		return now
	}
	at := now + instant(float64(d)/c.rate)
	for c.time(at).Before(t) {
		at += max(1, instant(t.Sub(c.time(at))))
	}
	return at
}

// stamp makes a time with a wall clock and a monotonic reading, as time.Now
// does. There is no other way than the bits of time.Time (package time says
// what they mean); init checks that they mean it still.
func stamp(wallNanos, mono int64) time.Time {
	const (
		hasMonotonic   = 1 << 63
		secondsTo1885  = (1884*365 + 1884/4 - 1884/100 + 1884/400) * 86400
		secondsTo1970  = (1969*365 + 1969/4 - 1969/100 + 1969/400) * 86400
		nanosPerSecond = int64(time.Second)
	)
	var t time.Time
	bits := (*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&t)) //nolint:gosec // see above
	sec, nsec := wallNanos/nanosPerSecond, wallNanos%nanosPerSecond
	bits.wall = hasMonotonic | uint64(sec+secondsTo1970-secondsTo1885)<<30 | uint64(nsec)
	bits.ext = mono
	return t
}

func init() {
	a, b := stamp(epoch+5, 1000), stamp(epoch-int64(time.Hour), 3000)
	if b.Sub(a) != 2000 || a.UnixNano() != epoch+5 || b.UnixNano() != epoch-int64(time.Hour) || !a.Add(time.Second).After(b) {
		panic(fmt.Sprintf("the layout of time.Time is another in this release of Go: %v %v", a, b))
	}
}
