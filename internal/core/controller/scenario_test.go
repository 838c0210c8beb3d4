package controller

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
)

// world is a controller whose records are appended and committed at once.
type world struct {
	t   testing.TB
	now time.Time
	c   *Controller
	out strings.Builder

	applied func(before *metadata.Image) // called after each batch of records
}

func newWorld(t testing.TB, static config.Static, expected int) *world {
	configs, err := config.NewResolver(1, static)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	opts := Options{ClusterID: "cluster", Configs: configs, ExpectedBrokers: expected}
	return &world{t: t, now: now, c: New(now, metadata.Empty(), opts, rand.New(rand.NewPCG(1, 2)))}
}

func (w *world) apply(d Decision) Response {
	if len(d.Records) > 0 {
		before := w.c.Image()
		w.c.Apply(before.Offset()+1, d.Records)
		if w.applied != nil {
			w.applied(before)
		}
	}
	for _, e := range d.Events {
		what := ""
		if e.Topic != "" {
			what = " " + e.Topic
			if strings.Contains(e.Kind, "leader") || strings.Contains(e.Kind, "in-sync") || strings.Contains(e.Kind, "reassign") || strings.Contains(e.Kind, "offline") || strings.Contains(e.Kind, "replica ") {
				what += "-" + strconv.Itoa(int(e.Partition))
			}
		} else if e.Node != kafka.NoNode {
			what = fmt.Sprintf(" %d", e.Node)
		}
		detail, _, _ := strings.Cut(e.Detail, "id ")
		fmt.Fprintf(&w.out, "%s%s: %s [%s]\n", e.Kind, what, detail, e.Cause)
	}
	if len(d.Replies) == 0 {
		return nil
	}
	return d.Replies[0].Response
}

func (w *world) decide(r Request) Response { return w.apply(w.c.Decide(w.now, r, 7)) }

func (w *world) say(what string, s Status) {
	if s.Error == kafka.None {
		fmt.Fprintf(&w.out, "%s ok\n", what)
		return
	}
	fmt.Fprintf(&w.out, "%s %v: %s\n", what, s.Error, s.Message)
}

// tell says what a request is answered that may have had to wait.
func (w *world) tell(what string, resp Response) {
	switch r := resp.(type) {
	case nil:
		fmt.Fprintf(&w.out, "%s waits\n", what)
	case StatusResult:
		w.say(what, r.Status)
	case AlterPartitionReassignmentsResult:
		if r.Error != kafka.None {
			w.say(what, r.Status)
		}
		for _, p := range r.Partitions {
			w.say(p.TopicPartition.String(), p.Status)
		}
	}
}

func (w *world) register(n kafka.NodeID, dir, incarnation byte, rack string, clean bool) RegisterBrokerResult {
	return w.decide(RegisterBroker{
		Node: n, Incarnation: [16]byte{incarnation}, Directory: [16]byte{dir}, Rack: rack, Host: "h", Port: 9092,
		PeerAddress: fmt.Sprintf("h%d:1", n), CleanShutdown: clean,
	}).(RegisterBrokerResult)
}

func (w *world) beat(n kafka.NodeID, shutdown bool) HeartbeatResult {
	b := w.c.Image().Broker(n)
	epoch := kafka.NoBrokerEpoch
	if b != nil {
		epoch = b.Epoch
	}
	return w.decide(Heartbeat{Node: n, Epoch: epoch, MetadataOffset: w.c.Image().Offset(), WantShutdown: shutdown}).(HeartbeatResult)
}

func (w *world) partition(name string) (*metadata.Topic, int32, *metadata.Partition) {
	topic, number, _ := strings.Cut(name, "/")
	i, _ := strconv.Atoi(number)
	t := w.c.Image().TopicByName(topic)
	return t, int32(i), t.Partition(int32(i))
}

func ids(text string) []kafka.NodeID {
	list := []kafka.NodeID{}
	for _, f := range strings.Split(text, ",") {
		n, err := strconv.Atoi(f)
		if err != nil {
			continue
		}
		list = append(list, kafka.NodeID(n))
	}
	return list
}

func (w *world) show() {
	for _, b := range w.c.Image().Brokers() {
		state := "active"
		switch {
		case b.Fenced:
			state = "fenced"
		case b.ShuttingDown:
			state = "shutting down"
		}
		fmt.Fprintf(&w.out, "node %d %s\n", b.ID, state)
	}
	for _, t := range w.c.Image().Topics() {
		if len(t.Partitions) > 9 {
			fmt.Fprintf(&w.out, "%s: %d partitions\n", t.Name, len(t.Partitions))
			continue
		}
		for i, p := range t.Partitions {
			fmt.Fprintf(&w.out, "%s/%d leader %d replicas %v in sync %v epochs %d,%d", t.Name, i, p.Leader, p.Replicas, p.InSync, p.LeaderEpoch, p.PartitionEpoch)
			if len(p.EligibleLeader) > 0 {
				fmt.Fprintf(&w.out, " eligible %v", p.EligibleLeader)
			}
			if p.LastLeader != kafka.NoNode {
				fmt.Fprintf(&w.out, " last %d", p.LastLeader)
			}
			if p.Reassigning() {
				fmt.Fprintf(&w.out, " adding %v removing %v", p.Adding, p.Removing)
			}
			if p.Recovering {
				w.out.WriteString(" recovering")
			}
			for _, u := range p.Unfit {
				fmt.Fprintf(&w.out, " unfit %d (%s)", u.Node, u.Cause)
			}
			w.out.WriteString("\n")
		}
	}
	checkImage(w.t, w.c.Image())
}

// line runs one line: a command and its arguments, KEY=VALUE or WORD.
func (w *world) line(line string) {
	fields := strings.Fields(line)
	args, words := map[string]string{}, []string{}
	for _, f := range fields[1:] {
		if k, v, ok := strings.Cut(f, "="); ok && k != "config" && k != "set" && k != "append" && k != "subtract" {
			args[k] = v
		} else {
			words = append(words, f)
		}
	}
	number := func(key string, otherwise int) int {
		if v, err := strconv.Atoi(args[key]); err == nil {
			return v
		}
		return otherwise
	}
	has := func(word string) bool {
		for _, f := range words {
			if f == word {
				return true
			}
		}
		return false
	}
	node := kafka.NodeID(number("node", -1))
	switch fields[0] {
	case "brokers": // registered and caught up
		said := w.out.String()
		for _, n := range ids(words[0]) {
			w.register(n, byte(n), byte(n), args[strconv.Itoa(int(n))], true)
			w.beat(n, false)
		}
		w.out.Reset()
		w.out.WriteString(said)
	case "register":
		r := w.register(node, byte(number("dir", int(node))), byte(number("incarnation", int(node))), args["rack"], has("clean"))
		w.say("register", r.Status)
	case "beat":
		for _, n := range ids(words[0]) {
			r := w.beat(n, has("shutdown"))
			w.say(fmt.Sprintf("node %d (caught up %v, fenced %v, stop %v)", n, r.CaughtUp, r.Fenced, r.ShouldShutDown), r.Status)
		}
	case "beat-stale":
		b := w.c.Image().Broker(node)
		r := w.decide(Heartbeat{Node: node, Epoch: b.Epoch, MetadataOffset: kafka.Offset(number("offset", 0))}).(HeartbeatResult)
		w.say(fmt.Sprintf("node %d (caught up %v, fenced %v)", node, r.CaughtUp, r.Fenced), r.Status)
	case "applied": // the named nodes tell that they act on the image
		for _, n := range ids(words[0]) {
			w.c.NoteApplied(n, w.c.Image().Offset())
		}
	case "wait":
		delay, _ := time.ParseDuration(words[0])
		w.now = w.now.Add(delay)
	case "tick":
		if resp := w.apply(w.c.Tick(w.now)); resp != nil {
			w.tell("who waited", resp)
		}
	case "pass": // time passes in ticks, and the named nodes beat
		delay, _ := time.ParseDuration(words[0])
		for end := w.now.Add(delay); w.now.Before(end); {
			w.now = w.now.Add(100 * time.Millisecond)
			for _, n := range ids(args["beating"]) {
				w.beat(n, false)
			}
			w.apply(w.c.Tick(w.now))
		}
	case "lost":
		w.say("lost", w.decide(PeerLost{Node: node, Epoch: kafka.NoBrokerEpoch}).(StatusResult).Status)
	case "unregister":
		w.tell("unregister", w.decide(UnregisterBroker{Node: node}))
	case "create":
		r := CreateTopics{ValidateOnly: has("validate")}
		for _, name := range strings.Split(args["names"], ",") {
			t := NewTopic{Name: name, Partitions: int32(number("partitions", -1)), ReplicationFactor: int16(number("factor", -1))}
			if args["assign"] != "" {
				for i, list := range strings.Split(args["assign"], "/") {
					t.Assignment = append(t.Assignment, Assignment{int32(i), ids(list)})
				}
			}
			for _, f := range words {
				if k, v, ok := strings.Cut(strings.TrimPrefix(f, "config="), "="); ok {
					t.Configs = append(t.Configs, ConfigValue{k, &v})
				}
			}
			r.Topics = append(r.Topics, t)
		}
		for _, t := range w.decide(r).(CreateTopicsResult).Topics {
			w.say(fmt.Sprintf("%.20s (%d partitions, factor %d)", t.Name, t.Partitions, t.ReplicationFactor), t.Status)
		}
	case "auto-create":
		for _, t := range w.decide(AutoCreateTopics{words}).(CreateTopicsResult).Topics {
			w.say(fmt.Sprintf("%s (%d partitions, factor %d)", t.Name, t.Partitions, t.ReplicationFactor), t.Status)
		}
	case "delete":
		var r DeleteTopics
		for _, name := range words {
			r.Topics = append(r.Topics, TopicRef{Name: name})
		}
		for _, name := range strings.Split(args["ids"], ",") {
			if t := w.c.Image().TopicByName(name); t != nil {
				r.Topics = append(r.Topics, TopicRef{ID: t.ID})
			} else if name != "" {
				r.Topics = append(r.Topics, TopicRef{ID: kafka.TopicID{9}})
			}
		}
		for _, t := range w.decide(r).(DeleteTopicsResult).Topics {
			w.say(t.Name, t.Status)
		}
	case "add-partitions":
		m := MorePartitions{Name: args["topic"], Count: int32(number("count", 0))}
		if args["assign"] != "" {
			for _, list := range strings.Split(args["assign"], "/") {
				m.Assignment = append(m.Assignment, ids(list))
			}
		}
		list := []MorePartitions{m}
		if has("twice") {
			list = append(list, m)
		}
		for _, t := range w.decide(CreatePartitions{Topics: list}).(CreatePartitionsResult).Topics {
			w.say(t.Name, t.Status)
		}
	case "in-sync":
		t, i, p := w.partition(words[0])
		epoch := kafka.NoBrokerEpoch
		if b := w.c.Image().Broker(node); b != nil {
			epoch = b.Epoch
		}
		change := InSyncChange{
			Topic: t.ID, Partition: i, LeaderEpoch: p.LeaderEpoch + kafka.LeaderEpoch(number("leader-epoch", 0)),
			PartitionEpoch: p.PartitionEpoch + kafka.PartitionEpoch(number("partition-epoch", 0)), Recovering: has("recovering"),
		}
		for _, n := range ids(args["to"]) {
			m := InSyncMember{n, kafka.NoBrokerEpoch}
			if b := w.c.Image().Broker(n); b != nil {
				m.Epoch = b.Epoch + kafka.BrokerEpoch(number("member-epoch", 0))
			}
			change.InSync = append(change.InSync, m)
		}
		r := w.decide(AlterPartition{node, epoch + kafka.BrokerEpoch(number("epoch", 0)), []InSyncChange{change}}).(AlterPartitionResult)
		if r.Error != kafka.None {
			w.say("all", r.Status)
		} else {
			w.say(words[0], r.Partitions[0].Status)
		}
	case "report":
		t, i, _ := w.partition(words[0])
		epoch := w.c.Image().Broker(node).Epoch + kafka.BrokerEpoch(number("epoch", 0))
		f := map[string]metadata.Fitness{"fit": metadata.Fit, "failed": metadata.Failed, "damaged": metadata.Damaged, "slow": metadata.Slow}[words[1]]
		r := w.decide(ReportReplicas{node, epoch, []ReplicaReport{{t.ID, i, f, "cause " + words[1]}}}).(ReportReplicasResult)
		if r.Error != kafka.None {
			w.say("all", r.Status)
		} else {
			w.say(words[0], r.Replicas[0].Status)
		}
	case "elect":
		r := ElectLeaders{Unclean: has("unclean")}
		for _, name := range words {
			if topic, number, ok := strings.Cut(name, "/"); ok {
				i, _ := strconv.Atoi(number)
				r.Partitions = append(r.Partitions, kafka.TopicPartition{Topic: topic, Partition: int32(i)})
			}
		}
		for _, p := range w.decide(r).(ElectLeadersResult).Partitions {
			w.say(p.TopicPartition.String(), p.Status)
		}
	case "reassign":
		topic, number, _ := strings.Cut(words[0], "/")
		i, _ := strconv.Atoi(number)
		r := Reassignment{TopicPartition: kafka.TopicPartition{Topic: topic, Partition: int32(i)}}
		if !has("cancel") {
			r.Replicas = ids(args["to"])
		}
		w.tell("reassign", w.decide(AlterPartitionReassignments{Partitions: []Reassignment{r}, RefuseReplicationFactorChanges: has("keep-factor")}))
	case "reassignments":
		for _, p := range w.decide(ListPartitionReassignments{}).(ListPartitionReassignmentsResult).Partitions {
			fmt.Fprintf(&w.out, "%v replicas %v adding %v removing %v\n", p.TopicPartition, p.Replicas, p.Adding, p.Removing)
		}
	case "alter":
		w.alter(args, words, has)
	case "producer-ids":
		r := w.decide(AllocateProducerIDs{node, w.c.Image().Broker(node).Epoch}).(AllocateProducerIDsResult)
		fmt.Fprintf(&w.out, "%d from %d\n", r.Count, r.First)
	case "failover": // another controller takes over
		w.c = New(w.now, w.c.Image(), w.c.opts, rand.New(rand.NewPCG(3, uint64(w.c.Image().Offset()))))
	case "show":
		w.show()
	default:
		w.t.Fatalf("unknown command %q", line)
	}
}

// alter changes configs: set=K=V, delete=K, append=K=V, subtract=K=V of the
// resource topic=, broker= or group=; "legacy" replaces them all.
func (w *world) alter(args map[string]string, words []string, has func(string) bool) {
	resource := metadata.ConfigResource{Type: metadata.ResourceTopic, Name: args["topic"]}
	if name, ok := args["broker"]; ok {
		resource = metadata.ConfigResource{Type: metadata.ResourceBroker, Name: name}
	} else if name, ok := args["group"]; ok {
		resource = metadata.ConfigResource{Type: metadata.ResourceGroup, Name: name}
	}
	var changes []ConfigChange
	var legacy []ConfigValue
	for _, f := range words {
		op, rest, _ := strings.Cut(f, "=")
		key, value, _ := strings.Cut(rest, "=")
		if rest == "" {
			continue
		}
		changes = append(changes, ConfigChange{ConfigValue{key, &value}, map[string]ConfigOp{"set": OpSet, "append": OpAppend, "subtract": OpSubtract}[op]})
		legacy = append(legacy, ConfigValue{key, &value})
	}
	if key, ok := args["delete"]; ok {
		changes = append(changes, ConfigChange{ConfigValue{key, nil}, OpDelete})
	}
	if key, ok := args["null"]; ok {
		changes = append(changes, ConfigChange{ConfigValue{key, nil}, OpSet})
	}
	if key, ok := args["op4"]; ok {
		changes = append(changes, ConfigChange{ConfigValue{key, nil}, 4})
	}
	var resp Response
	switch {
	case has("legacy"):
		resp = w.decide(AlterConfigs{Resources: []ResourceConfigs{{Resource: resource, Configs: legacy}}, ValidateOnly: has("validate")})
	case has("twice"):
		resp = w.decide(IncrementalAlterConfigs{Resources: []ResourceChanges{{Resource: resource, Changes: changes}, {Resource: resource, Changes: changes}}})
	default:
		resp = w.decide(IncrementalAlterConfigs{Resources: []ResourceChanges{{Resource: resource, Changes: changes}}, ValidateOnly: has("validate")})
	}
	for _, r := range resp.(AlterConfigsResult).Resources {
		w.say("alter", r.Status)
	}
	fmt.Fprintf(&w.out, "set: %v\n", w.c.Image().Config(resource))
}

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.Contains(path, "/fuzz/") || strings.Contains(path, "/rapid/") {
			return
		}
		w := newWorld(t, nil, 0)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.t = t
			w.out.Reset()
			if d.Cmd == "cluster" {
				expected := 0
				d.MaybeScanArgs(t, "expected", &expected)
				w = newWorld(t, nil, expected)
			}
			for _, line := range strings.Split(d.Input, "\n") {
				if line != "" {
					w.line(line)
				}
			}
			if w.out.Len() == 0 {
				return "ok\n"
			}
			return w.out.String()
		})
	})
}
