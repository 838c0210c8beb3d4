package deadline

import (
	"slices"
	"testing"
	"time"
)

func TestDeadlinesRunInOrderOfTimeThenOfAdding(t *testing.T) {
	var woken []time.Time
	q := New(func(at time.Time) { woken = append(woken, at) })
	t0 := time.Unix(1000, 0)
	var got []string
	add := func(name string, after time.Duration) *Entry {
		return q.At(t0.Add(after), func(time.Time) { got = append(got, name) })
	}
	add("c", 2*time.Second)
	add("a", time.Second)
	add("b", time.Second)
	gone := add("gone", time.Second)
	add("late", time.Hour)
	if !gone.Cancel() || gone.Cancel() {
		t.Error("the first Cancel must succeed and the second must not")
	}
	if next := q.Run(t0); !next.Equal(t0.Add(time.Second)) || len(got) != 0 {
		t.Fatalf("nothing was due: next %v, ran %v", next, got)
	}
	if next := q.Run(t0.Add(2 * time.Second)); !next.Equal(t0.Add(time.Hour)) {
		t.Errorf("next = %v", next)
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("ran %v, want %v", got, want)
	}
	if want := []time.Time{t0.Add(2 * time.Second), t0.Add(time.Second)}; !slices.Equal(woken, want) {
		t.Errorf("woken for %v, want %v", woken, want)
	}
}

func TestADeadlineMayAddAnother(t *testing.T) {
	q := New(nil)
	t0 := time.Unix(1000, 0)
	ran := 0
	q.At(t0, func(now time.Time) {
		ran++
		q.At(now, func(time.Time) { ran++ })
	})
	if next := q.Run(t0); !next.IsZero() || ran != 2 || q.Len() != 0 {
		t.Errorf("next %v, ran %d, left %d", next, ran, q.Len())
	}
}
