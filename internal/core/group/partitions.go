package group

import (
	"bytes"
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/format/offsets"
)

// Sets of partitions are []offsets.TopicPartitions in ascending order of topic
// id and partition, without empty topics. They are never changed in place.

type partitionSet = []offsets.TopicPartitions

func compareTopicIDs(a, b kafka.TopicID) int { return bytes.Compare(a[:], b[:]) }

// normalize brings what a client sent into the form of a set.
func normalize(list []offsets.TopicPartitions) partitionSet {
	byTopic := map[kafka.TopicID][]int32{}
	for _, t := range list {
		byTopic[t.TopicID] = append(byTopic[t.TopicID], t.Partitions...)
	}
	return collect(byTopic)
}

// collect makes a set of partitions by topic; the slices become the set's.
func collect(byTopic map[kafka.TopicID][]int32) partitionSet {
	set := make(partitionSet, 0, len(byTopic))
	for id, partitions := range byTopic {
		if len(partitions) > 0 {
			slices.Sort(partitions)
			set = append(set, offsets.TopicPartitions{TopicID: id, Partitions: slices.Compact(partitions)})
		}
	}
	slices.SortFunc(set, func(a, b offsets.TopicPartitions) int { return compareTopicIDs(a.TopicID, b.TopicID) })
	return set
}

func equalSets(a, b partitionSet) bool {
	return slices.EqualFunc(a, b, func(x, y offsets.TopicPartitions) bool {
		return x.TopicID == y.TopicID && slices.Equal(x.Partitions, y.Partitions)
	})
}

// combine goes through two sets topic by topic.
func combine(a, b partitionSet, fn func(x, y []int32) []int32) partitionSet {
	var out partitionSet
	for len(a) > 0 || len(b) > 0 {
		var c int
		switch {
		case len(a) == 0:
			c = 1
		case len(b) == 0:
			c = -1
		default:
			c = compareTopicIDs(a[0].TopicID, b[0].TopicID)
		}
		var id kafka.TopicID
		var x, y []int32
		if c <= 0 {
			id, x, a = a[0].TopicID, a[0].Partitions, a[1:]
		}
		if c >= 0 {
			id, y, b = b[0].TopicID, b[0].Partitions, b[1:]
		}
		if z := fn(x, y); len(z) > 0 {
			out = append(out, offsets.TopicPartitions{TopicID: id, Partitions: z})
		}
	}
	return out
}

func intersect(a, b partitionSet) partitionSet {
	return combine(a, b, func(x, y []int32) []int32 { return filterSorted(x, y, true) })
}

func subtract(a, b partitionSet) partitionSet {
	return combine(a, b, func(x, y []int32) []int32 { return filterSorted(x, y, false) })
}

func union(a, b partitionSet) partitionSet {
	return combine(a, b, func(x, y []int32) []int32 {
		if len(y) == 0 {
			return x
		}
		if len(x) == 0 {
			return y
		}
		z := slices.Concat(x, y)
		slices.Sort(z)
		return slices.Compact(z)
	})
}

// filterSorted keeps what of x is in y, or what is not.
func filterSorted(x, y []int32, in bool) []int32 {
	var out []int32
	for _, p := range x {
		for len(y) > 0 && y[0] < p {
			y = y[1:]
		}
		if (len(y) > 0 && y[0] == p) == in {
			out = append(out, p)
		}
	}
	return out
}

func countPartitions(set partitionSet) int {
	n := 0
	for i := range set {
		n += len(set[i].Partitions)
	}
	return n
}
