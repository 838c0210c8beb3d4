package group

import (
	"reflect"
	"testing"
)

// FuzzEmbedded: what clients send as their metadata and assignments never
// harms the coordinator, and assignments read back as they were written.
func FuzzEmbedded(f *testing.F) {
	f.Add(subscriptionOf([]string{"t", "u"}))
	f.Add(append(subscriptionOf([]string{"t"}), 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 3))
	f.Add(appendAssignment(nil, 3, []embeddedPartitions{{"t", []int32{0, 2}}, {"u", []int32{1}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		parseSubscription(b)
		subscribedTopics(b)
		list, _, ok := parseAssignment(b)
		if !ok || len(b) == 0 {
			return
		}
		again, userData, ok := parseAssignment(appendAssignment(nil, 1, list))
		if !ok || userData != nil || !reflect.DeepEqual(again, list) {
			t.Fatalf("%v was read back as %v, %v", list, again, ok)
		}
	})
}
