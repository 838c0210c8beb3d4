package main

import (
	"fmt"
	"sort"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// uncovered names what both servers offer and no case asks for: a key at a
// version for which there is nothing but broken frames.
func uncovered(o options, sides []*side) []string {
	if o.nodes != 1 || len(sides) < 2 {
		return nil
	}
	var keys []int
	for key := range sides[0].offers {
		if _, ok := sides[1].offers[key]; ok {
			keys = append(keys, int(key))
		}
	}
	sort.Ints(keys)
	var out []string
	for _, k := range keys {
		key := int16(k)
		a, b := sides[0].offers[key], sides[1].offers[key]
		both := span{max(a.min, b.min), min(a.max, b.max)}
		for v := both.min; v <= both.max; v++ {
			if common, ok := sides[0].common[key]; !ok || v < common.min || v > common.max {
				out = append(out, fmt.Sprintf("%s v%d is offered by both, and the test cannot write it", kmsg.NameForKey(key), v))
			} else if !covered(key, v, both) {
				out = append(out, fmt.Sprintf("%s v%d is offered by both, and no case asks for it", kmsg.NameForKey(key), v))
			}
		}
	}
	return out
}

func covered(key, version int16, offered span) bool {
	for i := range cases {
		c := &cases[i]
		if c.Key == key && c.Nodes == 0 && c.Name != framesCase && version >= c.From && version <= c.last(offered) {
			return true
		}
	}
	return false
}
