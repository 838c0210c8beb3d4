package cluster

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

var batchLine = regexp.MustCompile(`^\s+batch at \d+: (.*)\n$`)

// Batches are the batches in the files of a partition on a node, as `chronik
// wal dump` prints them, without their places in the files. The error says where the files are damaged.
func (n *Node) Batches(topic string, partition int32) ([]string, error) {
	code, out, err := RunToEnd(n.binary, time.Minute, "wal", "dump", "--batches", n.PartitionDir(topic, partition))
	if err != nil {
		return nil, err
	}
	var batches, damage []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "!!") {
			damage = append(damage, strings.TrimSpace(line))
		}
		if m := batchLine.FindStringSubmatch(line); m != nil {
			batches = append(batches, m[1])
		}
	}
	if code != 0 {
		return batches, fmt.Errorf("wal dump ended with code %d: %s", code, strings.Join(damage, "; "))
	}
	return batches, nil
}

// Tool runs a command of chronik against this node, from where the node is.
func (n *Node) Tool(args ...string) (code int, output string, err error) {
	argv := slices.Concat(n.wrapper, []string{n.binary}, args, []string{"--bootstrap", n.Kafka, "--http", n.HTTP})
	return RunToEnd(argv[0], 2*time.Minute, argv[1:]...)
}
