package cluster

import "testing"

// Two processes that run tests at the same time must not take the ports of each
// other's nodes, which nobody listens on while a node is down.
func TestProcessesHaveNoPortsInCommon(t *testing.T) {
	taken := make(map[int]int)
	for i := range 3 {
		var b portBlock
		for range blockPorts - 1 {
			port, err := b.take()
			if err != nil {
				break // others use some of the block
			}
			if other, ok := taken[port]; ok {
				t.Fatalf("port %d is given to %d and %d", port, other, i)
			}
			taken[port] = i
		}
		t.Cleanup(func() { b.held.Close() })
	}
}

func TestPortsAreGivenAgain(t *testing.T) {
	var b portBlock
	t.Cleanup(func() { b.held.Close() })
	before := -1
	for range 2 * blockPorts {
		port, err := b.take()
		if err != nil {
			t.Fatal(err)
		}
		if port == before {
			t.Fatalf("port %d is given twice in a row", port)
		}
		b.giveBack(port)
		before = port
	}
}
