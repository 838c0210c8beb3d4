// Package golang runs Go's Kafka clients against the broker at COMPAT_BROKER.
package golang

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

const records = 100

var (
	codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}
	then   = time.Now().Add(-time.Hour).Truncate(time.Second)
)

func broker(t *testing.T) string {
	t.Helper()
	addr := os.Getenv("COMPAT_BROKER")
	if addr == "" {
		t.Skip("COMPAT_BROKER names no broker")
	}
	return addr
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// message is what every client sends as its record i.
type message struct {
	key, value, header string
	null               bool
	at                 time.Time
}

func sent(i int) message {
	return message{fmt.Sprint("k", i), fmt.Sprint("value ", i), fmt.Sprint(i), i%10 == 0, then.Add(time.Duration(i) * time.Millisecond)}
}

// same compares what was read with what was sent.
func same(t *testing.T, i int, offset int64, key, value []byte, header []byte, at time.Time) {
	t.Helper()
	want := sent(i)
	if want.null {
		want.value = ""
	}
	if int64(i) != offset || string(key) != want.key || string(value) != want.value || (value == nil) != want.null ||
		string(header) != want.header || !at.Equal(want.at) {
		t.Fatalf("record %d: offset %d key %q value %q (nil: %v) header %q at %v, want %+v", i, offset, key, value, value == nil, header, at, want)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
