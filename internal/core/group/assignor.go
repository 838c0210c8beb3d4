package group

import (
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
)

// assignorMember is a member as an assignor sees it.
type assignorMember struct {
	id     string
	order  string // instance id, or else member id
	rack   string
	topics []Topic      // that it reads, by name
	had    partitionSet // its target assignment so far
}

// assign gives every partition that somebody reads to exactly one reader of
// it. The members come in the order of their ids; so do the results.
func assign(assignor string, members []assignorMember) []partitionSet {
	if assignor == AssignorRange {
		return assignRange(members)
	}
	return assignUniform(members)
}

// assignRange gives each reader of a topic a run of neighbouring partitions,
// the same for topics with the same readers and number of partitions.
func assignRange(members []assignorMember) []partitionSet {
	readers := map[string][]int{}
	topics := map[string]Topic{}
	for i := range members {
		for _, t := range members[i].topics {
			readers[t.Name] = append(readers[t.Name], i)
			topics[t.Name] = t
		}
	}
	out := make([]map[kafka.TopicID][]int32, len(members))
	for name, list := range readers {
		slices.SortFunc(list, func(a, b int) int {
			switch {
			case members[a].order < members[b].order:
				return -1
			case members[a].order > members[b].order:
				return 1
			}
			return a - b
		})
		n, rest := topics[name].Partitions/int32(len(list)), topics[name].Partitions%int32(len(list))
		next := int32(0)
		for i, m := range list {
			count := n
			if int32(i) < rest {
				count++
			}
			if out[m] == nil {
				out[m] = map[kafka.TopicID][]int32{}
			}
			if mutant.On(mutant.RangeShort) && i == len(list)-1 && count > 0 {
				count--
			}
			run := make([]int32, count)
			for j := range run {
				run[j] = next + int32(j)
			}
			out[m][topics[name].ID] = run
			next += count
		}
	}
	sets := make([]partitionSet, len(members))
	for i := range out {
		sets[i] = collect(out[i])
	}
	return sets
}

// uniform is the work of one uniform assignment: every member gets as many
// partitions as every other, as far as the subscriptions allow, and keeps as
// many of those it had as that leaves room for.
type uniform struct {
	members []assignorMember
	readers map[kafka.TopicID][]int // members that read the topic
	topics  []Topic                 // by id
	owner   map[kafka.TopicID][]int // of each partition; -1 for none
	load    []int                   // partitions of each member
	racks   bool                    // some member has a rack
}

func assignUniform(members []assignorMember) []partitionSet {
	u := &uniform{
		members: members, readers: map[kafka.TopicID][]int{}, owner: map[kafka.TopicID][]int{},
		load: make([]int, len(members)),
	}
	for i := range members {
		u.racks = u.racks || members[i].rack != ""
		for _, t := range members[i].topics {
			if u.readers[t.ID] == nil {
				u.topics = append(u.topics, t)
				u.owner[t.ID] = slices.Repeat([]int{-1}, int(t.Partitions))
			}
			u.readers[t.ID] = append(u.readers[t.ID], i)
		}
	}
	slices.SortFunc(u.topics, func(a, b Topic) int { return compareTopicIDs(a.ID, b.ID) })
	u.keep()
	u.place()
	u.balance()
	return u.sets()
}

// keep leaves with each member what it had and may still have. Where all read
// the same topics nobody keeps more than its share.
func (u *uniform) keep() {
	share, extra := u.share()
	for i := range u.members {
		limit := share
		if extra > 0 {
			limit++
		}
		for _, t := range u.members[i].had {
			owner := u.owner[t.TopicID]
			if owner == nil || !slices.Contains(u.readers[t.TopicID], i) {
				continue
			}
			for _, p := range t.Partitions {
				if int(p) < len(owner) && owner[p] < 0 && (share < 0 || u.load[i] < limit) {
					owner[p] = i
					u.load[i]++
				}
			}
		}
		if u.load[i] > share {
			extra--
		}
	}
}

// share is how many partitions each member gets at least, and how many of the
// members get one more; -1 when the members do not read the same topics.
func (u *uniform) share() (int, int) {
	total := 0
	for _, t := range u.topics {
		if len(u.readers[t.ID]) != len(u.members) {
			return -1, 0
		}
		total += int(t.Partitions)
	}
	if len(u.members) == 0 {
		return -1, 0
	}
	return total / len(u.members), total % len(u.members)
}

// place gives each partition without an owner to the reader with the least
// to do, one in a replica's rack if there is one that has no more than others.
func (u *uniform) place() {
	for _, t := range u.topics {
		for p, o := range u.owner[t.ID] {
			if o < 0 {
				m := u.leastLoaded(t, int32(p))
				u.owner[t.ID][p] = m
				u.load[m]++
			}
		}
	}
}

func (u *uniform) leastLoaded(t Topic, p int32) int {
	var racks []string
	if u.racks && t.Racks != nil {
		racks = t.Racks(p)
	}
	best, near := -1, false
	for _, m := range u.readers[t.ID] {
		here := slices.Contains(racks, u.members[m].rack) && u.members[m].rack != ""
		if best < 0 || u.load[m] < u.load[best] || u.load[m] == u.load[best] && here && !near {
			best, near = m, here
		}
	}
	return best
}

// balance moves partitions to readers that have less to do by two or more,
// until there are none. Each move makes the sum of the squares of the loads
// smaller, so it ends.
func (u *uniform) balance() {
	for moved := true; moved; {
		moved = false
		for _, t := range u.topics {
			for p, o := range u.owner[t.ID] {
				if m := u.leastLoaded(t, int32(p)); u.load[o] > u.load[m]+1 {
					u.owner[t.ID][p] = m
					u.load[o]--
					u.load[m]++
					moved = true
				}
			}
		}
	}
}

func (u *uniform) sets() []partitionSet {
	out := make([]map[kafka.TopicID][]int32, len(u.members))
	for i := range out {
		out[i] = map[kafka.TopicID][]int32{}
	}
	for _, t := range u.topics {
		for p, o := range u.owner[t.ID] {
			out[o][t.ID] = append(out[o][t.ID], int32(p))
		}
	}
	sets := make([]partitionSet, len(out))
	for i := range out {
		sets[i] = collect(out[i])
	}
	return sets
}
