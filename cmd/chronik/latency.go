package main

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// latencies is a histogram of durations that is exact to 1/32, and that many
// goroutines may add to.
type latencies struct {
	buckets [60 << latencyBits]atomic.Int64
	count   atomic.Int64
	max     atomic.Int64
}

const latencyBits = 5

func (l *latencies) add(d time.Duration) {
	n := uint64(max(d, 0))
	l.buckets[latencyBucket(n)].Add(1)
	l.count.Add(1)
	for {
		top := l.max.Load()
		if int64(n) <= top || l.max.CompareAndSwap(top, int64(n)) {
			return
		}
	}
}

// latencyBucket keeps the first latencyBits+1 bits of n.
func latencyBucket(n uint64) int {
	shift := max(bits.Len64(n)-latencyBits-1, 0)
	return shift<<latencyBits + int(n>>shift)
}

// bucketEnd is the greatest number in a bucket.
func bucketEnd(bucket int) uint64 {
	if bucket < 2<<latencyBits {
		return uint64(bucket)
	}
	shift := bucket>>latencyBits - 1
	first := uint64(bucket-shift<<latencyBits) << shift
	return first + 1<<shift - 1
}

// percentile is the duration that so many percent do not exceed.
func (l *latencies) percentile(p float64) time.Duration {
	want := int64(float64(l.count.Load())*p/100 + 0.5)
	seen := int64(0)
	for i := range l.buckets {
		if seen += l.buckets[i].Load(); seen >= want && seen > 0 {
			return min(time.Duration(bucketEnd(i)), l.longest())
		}
	}
	return l.longest()
}

func (l *latencies) longest() time.Duration { return time.Duration(l.max.Load()) }
