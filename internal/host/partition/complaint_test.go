package partition

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/storage/wal"
)

// A consumer asks again at once; 16 million lines in half an hour were one
// damaged batch.
func TestAReadThatFailsAgainAndAgainDoesNotFillTheLog(t *testing.T) {
	c := newCluster(t, 1, TopicConfig{})
	n := c.nodes[0]
	var out bytes.Buffer
	n.p.slog = slog.New(slog.NewTextHandler(&out, nil))
	damage := func(offset int) error { return &wal.CorruptError{File: "segment", Offset: kafka.Offset(offset)} }
	read := func(err error) {
		if code := n.p.readError(c.now, err); code != kafka.ErrKafkaStorageError {
			t.Fatalf("answered %v", code)
		}
	}
	lines := func() []string { return strings.Split(strings.TrimSpace(out.String()), "\n") }
	for range 1000 {
		read(damage(1))
	}
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], "offset 1") {
		t.Fatalf("a thousand times the same: %q", got)
	}
	read(damage(2))
	if got := lines(); len(got) != 2 || !strings.Contains(got[1], "offset 2") {
		t.Fatalf("something new: %q", got)
	}
	read(damage(2))
	c.now = c.now.Add(complaintInterval)
	read(damage(2))
	if got := lines(); len(got) != 3 || !strings.Contains(got[2], "left_out=1") {
		t.Fatalf("after a while: %q", got)
	}
}

func TestAComplaintAlternates(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	var c complaint
	now := time.UnixMilli(1)
	for i := range 100 {
		c.write(now, log, "read failed", errors.New(fmt.Sprint("at ", i%2)))
	}
	if n := strings.Count(out.String(), "\n"); n > 10 {
		t.Fatalf("%d lines of two failures in turns", n)
	}
}
