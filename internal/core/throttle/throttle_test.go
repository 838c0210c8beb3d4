package throttle

import (
	"testing"
	"time"
)

// pass has as much pass in so much virtual time as may, in pieces.
func pass(b *Bucket, now time.Time, length time.Duration, piece int) (bytes int, end time.Time) {
	for end = now; end.Before(now.Add(length)); {
		if wait := b.Wait(end); wait > 0 {
			end = end.Add(wait)
			continue
		}
		b.Take(end, piece)
		bytes += piece
	}
	return bytes, end
}

func TestBytesPassAtTheRate(t *testing.T) {
	for _, piece := range []int{1, 1000, 1 << 20} {
		for _, rate := range []int64{1000, 100_000, 10 << 20} {
			if int64(piece)*1000 < rate {
				continue // too many pieces to count
			}
			var b Bucket
			now := time.Unix(1000, 0)
			b.SetRate(now, rate)
			const seconds = 100
			got, now := pass(&b, now, seconds*time.Second, piece)
			if most := rate*seconds + int64(piece) + rate; int64(got) > most || int64(got) < rate*(seconds-1)-int64(piece) {
				t.Errorf("pieces of %d at %d bytes/s: %d bytes in %d s", piece, rate, got, seconds)
			}
			// What was saved up is bounded, however long nobody took anything.
			got, _ = pass(&b, now.Add(time.Hour), 10*time.Second, piece)
			if most := rate*12 + int64(piece); int64(got) > most {
				t.Errorf("pieces of %d at %d bytes/s: %d bytes in 10 s after a pause", piece, rate, got)
			}
		}
	}
}

func TestRateChangesAtOnce(t *testing.T) {
	var b Bucket
	now := time.Unix(1000, 0)
	if b.Wait(now) == 0 {
		t.Error("a bucket without a rate lets bytes pass")
	}
	b.SetRate(now, Unlimited)
	b.Take(now, 1<<40)
	if d := b.Wait(now); d != 0 {
		t.Errorf("without a limit: wait %v", d)
	}
	b.SetRate(now, 1000)
	got, now := pass(&b, now, 10*time.Second, 100)
	if got > 11_100 {
		t.Errorf("%d bytes in 10 s at 1000 a second", got)
	}
	b.Take(now, 5000)
	if got, _ := pass(&b, now, 4*time.Second, 100); got != 0 {
		t.Errorf("after 5000 bytes too many: %d bytes within 4 s", got)
	}
	b.SetRate(now, 10_000)
	now = now.Add(4 * time.Second)
	if d := b.Wait(now); d != 0 {
		t.Errorf("at a higher rate: wait %v", d)
	}
	b.Take(now, 15_000)
	b.Take(now, -20_000)
	if d := b.Wait(now.Add(time.Millisecond)); d != 0 {
		t.Errorf("given back: wait %v", d)
	}
	if d := b.Wait(now.Add(-time.Hour)); d != 0 {
		t.Errorf("a clock that went back: wait %v", d)
	}
}
