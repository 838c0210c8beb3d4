package group

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"chronik/internal/base/kafka"
	"chronik/internal/format/offsets"
)

// TestScenarios runs the conversations of testdata.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := newConversation(t, Options{})
		datadriven.RunTest(t, path, w.run)
	})
}

// conversation is a shard, its log and the names that a scenario gives things.
type conversation struct {
	t      *testing.T
	shard  *Shard
	opts   Options
	topics fakeTopics
	now    time.Time
	wake   time.Time
	ticket Ticket
	log    []Record
	kinds  map[Ticket]Request
	ids    map[string]string // names of generated member ids
	out    strings.Builder
	quiet  bool
}

func newConversation(t *testing.T, opts Options) *conversation {
	w := &conversation{t: t, opts: opts, now: time.UnixMilli(1_700_000_000_000).UTC(), kinds: map[Ticket]Request{}, ids: map[string]string{}}
	w.load()
	return w
}

// load rebuilds the shard from the log.
func (w *conversation) load() {
	w.shard = New(w.opts, rand.New(rand.NewPCG(1, uint64(len(w.log)))))
	w.shard.SetTopics(w.topics)
	for _, r := range w.log {
		w.shard.Apply(r)
	}
	w.take(w.shard.Start(w.now))
}

func (w *conversation) take(d Decision) {
	for _, r := range d.Records {
		w.shard.Apply(r)
		w.log = append(w.log, r)
		if !w.quiet {
			fmt.Fprintf(&w.out, "  record %s\n", w.formatRecord(r))
		}
	}
	for _, e := range d.Events {
		if e.Kind == EventMemberJoined {
			w.ids[fmt.Sprintf("#%d", w.ticket)], w.ids["#last"] = e.MemberID, e.MemberID
		}
		if !w.quiet {
			fmt.Fprintf(&w.out, "  event %s: %s\n", e.Kind, strings.TrimSpace(w.names(e.MemberID)+" "+w.names(e.Cause)))
		}
	}
	for _, r := range d.Replies {
		fmt.Fprintf(&w.out, "#%d %s\n", r.Ticket, w.formatReply(r))
		if w.kinds[r.Ticket] == nil {
			w.t.Fatalf("ticket %d is answered twice", r.Ticket)
		}
		delete(w.kinds, r.Ticket)
	}
	w.wake = d.Wake
}

func (w *conversation) ask(req Request) {
	w.ticket++
	w.kinds[w.ticket] = req
	w.take(w.shard.Decide(w.now, req, w.ticket))
	if w.kinds[w.ticket] != nil {
		fmt.Fprintf(&w.out, "#%d waits\n", w.ticket)
	}
}

// args reads the key=value arguments of a command.
type args struct {
	w *conversation
	d *datadriven.TestData
}

func (a args) str(key, def string) string {
	if !a.d.HasArg(key) {
		return def
	}
	var v string
	a.d.ScanArgs(a.w.t, key, &v)
	return v
}

func (a args) int(key string, def int) int {
	s := a.str(key, "")
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		a.d.Fatalf(a.w.t, "%s: %v", key, err)
	}
	return n
}

// member is the id behind a name that a scenario uses.
func (a args) member() string {
	name := a.str("m", "")
	if id, ok := a.w.ids[name]; ok {
		return id
	}
	return name
}

func (a args) list(key string) []string {
	if !a.d.HasArg(key) {
		return nil
	}
	if s := a.str(key, ""); s != "" && s != "none" {
		return strings.Split(s, "+")
	}
	return []string{}
}

func (w *conversation) run(_ *testing.T, d *datadriven.TestData) string {
	a := args{w, d}
	w.out.Reset()
	w.quiet = d.HasArg("quiet")
	g := a.str("g", "g")
	switch d.Cmd {
	case "options":
		w.setOptions(a)
		w.load()
	case "topics":
		w.setTopics(d.Input)
	case "reload":
		w.load()
	case "tick":
		dur, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			d.Fatalf(w.t, "%v", err)
		}
		w.advance(dur)
	case "hang":
		dur, _ := time.ParseDuration(d.CmdArgs[0].Key)
		w.now = w.now.Add(dur)
		w.take(w.shard.Tick(w.now))
	case "join":
		w.ask(&JoinGroup{
			Version: int16(a.int("v", 9)), Group: a.group(), MemberID: a.member(), InstanceID: a.str("i", ""),
			ClientID: a.str("client", "c"), ClientHost: "/127.0.0.1", SessionTimeoutMs: int32(a.int("session", 10000)),
			RebalanceTimeoutMs: int32(a.int("rebalance", 60000)), ProtocolType: a.str("type", "consumer"),
			Protocols: parseProtocols(a.list("p"), a.list("owned")), Reason: a.str("reason", ""),
		})
	case "sync":
		r := &SyncGroup{Version: int16(a.int("v", 4)), Group: g, MemberID: a.member(), InstanceID: a.str("i", ""),
			Generation: int32(a.int("gen", 1)), ProtocolType: a.str("type", ""), ProtocolName: a.str("name", "")}
		for _, s := range a.list("a") {
			m, data, _ := strings.Cut(s, ":")
			if id, ok := w.ids[m]; ok {
				m = id
			}
			if strings.Contains(data, "/") || data == "nothing" {
				data = string(appendAssignment(nil, 1, parseEmbedded(strings.Split(data, "*"))))
			}
			r.Assignments = append(r.Assignments, Assignment{MemberID: m, Data: []byte(data)})
		}
		w.ask(r)
	case "heartbeat":
		w.ask(&Heartbeat{Group: g, MemberID: a.member(), InstanceID: a.str("i", ""), Generation: int32(a.int("gen", 1))})
	case "leave":
		r := &LeaveGroup{Version: int16(a.int("v", 5)), Group: g}
		if d.HasArg("m") || d.HasArg("i") {
			r.Members = []LeavingMember{{MemberID: a.member(), InstanceID: a.str("i", ""), Reason: a.str("reason", "")}}
		}
		w.ask(r)
	case "commit":
		w.ask(&OffsetCommit{Version: int16(a.int("v", 9)), Group: a.group(), MemberID: a.member(), InstanceID: a.str("i", ""),
			Generation: int32(a.int("gen", -1)), RetentionMs: int64(a.int("retention", -1)), Offsets: parseOffsets(a.list("o"))})
	case "txn-commit":
		w.ask(&TxnOffsetCommit{Version: 3, Group: a.group(), MemberID: a.member(), Generation: int32(a.int("gen", -1)),
			ProducerID: kafka.ProducerID(a.int("pid", 1)), ProducerEpoch: kafka.ProducerEpoch(a.int("epoch", 0)), Offsets: parseOffsets(a.list("o"))})
	case "marker":
		w.ask(&TxnMarker{ProducerID: kafka.ProducerID(a.int("pid", 1)), ProducerEpoch: kafka.ProducerEpoch(a.int("epoch", 0)),
			CoordinatorEpoch: int32(a.int("cepoch", 0)), TV2: d.HasArg("tv2"), Commit: d.HasArg("commit")})
	case "fetch":
		r := &OffsetFetch{Group: g, RequireStable: d.HasArg("stable"), MemberID: a.member(), MemberEpoch: int32(a.int("epoch", -1))}
		for _, s := range a.list("o") {
			tp := parsePartition(s)
			r.Topics = append(r.Topics, TopicToFetch{Topic: tp.Topic, Partitions: []int32{tp.Partition}})
		}
		r.All = r.Topics == nil
		w.ask(r)
	case "offset-delete":
		r := &OffsetDelete{Group: g}
		for _, s := range a.list("o") {
			r.Partitions = append(r.Partitions, parsePartition(s))
		}
		w.ask(r)
	case "describe":
		w.ask(&DescribeGroup{Version: int16(a.int("v", 6)), Group: g})
	case "list":
		w.ask(&ListGroups{States: a.list("states"), Types: a.list("types")})
	case "delete":
		w.ask(&DeleteGroup{Group: g})
	case "topics-deleted":
		w.ask(&TopicsDeleted{Topics: a.list("topics")})
	case "chb":
		w.consumerHeartbeat(a)
	case "cdescribe":
		w.ask(&ConsumerGroupDescribe{Group: g})
	case "call":
		// names a member id that the coordinator made: call a=3, or call a=last
		id := w.ids["#"+d.CmdArgs[0].Vals[0]]
		if instance, ok := strings.CutPrefix(d.CmdArgs[0].Vals[0], "i/"); ok {
			id = w.shard.groups[g].classic.static[instance]
		}
		if id == "" {
			d.Fatalf(w.t, "no such member")
		}
		w.ids[d.CmdArgs[0].Key] = id
	default:
		d.Fatalf(w.t, "unknown command")
	}
	if w.out.Len() == 0 {
		return "ok\n"
	}
	return w.out.String()
}

func (a args) group() string {
	if g := a.str("g", "g"); g != "none" {
		return g
	}
	return ""
}

func (w *conversation) advance(dur time.Duration) {
	end := w.now.Add(dur)
	for !w.wake.IsZero() && !w.wake.After(end) {
		w.now = w.wake
		w.take(w.shard.Tick(w.now))
	}
	w.now = end
}

func (w *conversation) setOptions(a args) {
	ms := func(key string) time.Duration { return time.Duration(a.int(key, 0)) * time.Millisecond }
	w.opts = Options{
		InitialRebalanceDelay: ms("delay"), MaxSize: a.int("max-size", 0), ConsumerMaxSize: a.int("consumer-max-size", 0),
		OffsetsRetention: ms("retention"), ConsumerAssignmentInterval: ms("assignment"), Migration: Migration(a.str("migration", "")),
	}
}

func (w *conversation) consumerHeartbeat(a args) {
	r := &ConsumerGroupHeartbeat{
		Version: int16(a.int("v", 1)), Group: a.group(), MemberID: a.member(), MemberEpoch: int32(a.int("epoch", 0)),
		InstanceID: a.str("i", ""), RackID: a.str("rack", ""), ClientID: "c", ClientHost: "/127.0.0.1",
		RebalanceTimeoutMs: int32(a.int("rebalance", -1)), SubscribedTopicNames: a.list("topics"), ServerAssignor: a.str("assignor", ""),
	}
	if a.d.HasArg("regex") {
		re := a.str("regex", "")
		r.SubscribedTopicRegex = &re
	}
	if r.MemberEpoch == 0 && !a.d.HasArg("raw") {
		r.Owned = []offsets.TopicPartitions{}
		if r.RebalanceTimeoutMs < 0 {
			r.RebalanceTimeoutMs = 60000
		}
	}
	if a.d.HasArg("owned") {
		r.Owned = []offsets.TopicPartitions{}
		for _, s := range a.list("owned") {
			tp := parsePartition(s)
			topic, _ := w.topics.ByName(tp.Topic)
			r.Owned = append(r.Owned, offsets.TopicPartitions{TopicID: topic.ID, Partitions: []int32{tp.Partition}})
		}
	}
	w.ask(r)
}

// setTopics reads lines of "name partitions", and of racks by partition if there are any.
func (w *conversation) setTopics(input string) {
	w.topics = fakeTopics{version: w.topics.version + 1}
	for _, line := range strings.Split(strings.TrimSpace(input), "\n") {
		f := strings.Fields(line)
		n, _ := strconv.Atoi(f[1])
		t := Topic{Name: f[0], ID: topicID(f[0]), Partitions: int32(n)}
		if racks := f[2:]; len(racks) > 0 {
			t.Racks = func(p int32) []string { return strings.Split(racks[p], ",") }
		}
		w.topics.list = append(w.topics.list, t)
	}
	w.shard.SetTopics(w.topics)
}

func topicID(name string) (id kafka.TopicID) {
	copy(id[:], name)
	return id
}

type fakeTopics struct {
	version int64
	list    []Topic
}

func (f fakeTopics) Version() int64 { return f.version }
func (f fakeTopics) ByName(name string) (Topic, bool) {
	for _, t := range f.list {
		if t.Name == name {
			return t, true
		}
	}
	return Topic{}, false
}
func (f fakeTopics) ByID(id kafka.TopicID) (Topic, bool) {
	for _, t := range f.list {
		if t.ID == id {
			return t, true
		}
	}
	return Topic{}, false
}
func (f fakeTopics) Each(fn func(Topic) bool) {
	for _, t := range f.list {
		if !fn(t) {
			return
		}
	}
}

// parseProtocols reads name:topic/topic; the metadata is a subscription to the topics.
func parseProtocols(list, owned []string) []Protocol {
	if list == nil {
		list = []string{"range:t"}
	}
	var out []Protocol
	for _, s := range list {
		name, topics, _ := strings.Cut(s, ":")
		metadata := subscriptionOf(strings.Split(topics, "/"))
		if owned != nil {
			assignment := appendAssignment(nil, 1, parseEmbedded(owned))
			metadata = append(metadata, assignment[2:len(assignment)-4]...)
		}
		out = append(out, Protocol{Name: name, Metadata: metadata})
	}
	return out
}

func subscriptionOf(topics []string) []byte {
	b := []byte{0, 1, 0, 0, 0, byte(len(topics))}
	for _, t := range topics {
		b = append(b, 0, byte(len(t)))
		b = append(b, t...)
	}
	return append(b, 0xff, 0xff, 0xff, 0xff)
}

// parseEmbedded reads topic/partition.
func parseEmbedded(list []string) []embeddedPartitions {
	var out []embeddedPartitions
	for _, s := range list {
		if tp := parsePartition(s); strings.Contains(s, "/") {
			out = append(out, embeddedPartitions{tp.Topic, []int32{tp.Partition}})
		}
	}
	return out
}

// formatAssignment shows the bytes of an assignment, in words if they have a meaning.
func formatAssignment(b []byte) string {
	list, _, ok := parseAssignment(b)
	if !ok || len(b) < 10 {
		return fmt.Sprintf("%q", b)
	}
	return strings.ReplaceAll(fmt.Sprintf("v%d%v", b[1], list), "\x00", "")
}

func parsePartition(s string) kafka.TopicPartition {
	topic, p, _ := strings.Cut(s, "/")
	n, _ := strconv.Atoi(p)
	return kafka.TopicPartition{Topic: topic, Partition: int32(n)}
}

// parseOffsets reads topic/partition=offset and, after a colon, metadata.
func parseOffsets(list []string) []OffsetToCommit {
	var out []OffsetToCommit
	for _, s := range list {
		where, what, _ := strings.Cut(s, "@")
		offset, meta, _ := strings.Cut(what, ":")
		n, _ := strconv.ParseInt(offset, 10, 64)
		tp := parsePartition(where)
		if meta == "long" {
			meta = strings.Repeat("x", 5000)
		}
		out = append(out, OffsetToCommit{Topic: tp.Topic, Partition: tp.Partition, Offset: kafka.Offset(n), LeaderEpoch: 7, Metadata: meta})
	}
	return out
}

// names puts the scenario's names in place of generated ids.
func (w *conversation) names(s string) string {
	for name, id := range w.ids {
		if !strings.HasPrefix(name, "#") && id != "" && id != name {
			s = strings.ReplaceAll(s, id, name)
		}
	}
	return s
}

func (w *conversation) formatRecord(r Record) string {
	prefix := ""
	if r.Producer != nil {
		prefix = fmt.Sprintf("producer %d ", r.Producer.ID)
	}
	switch r.Marker {
	case CommitMarker:
		return prefix + "commits"
	case AbortMarker:
		return prefix + "aborts"
	}
	if r.Data.IsTombstone() {
		return prefix + w.names(strings.NewReplacer("offsets.", "", " <nil>}", "}", "{", " {").Replace(fmt.Sprintf("tombstone %T%v", r.Data, r.Data)))
	}
	switch d := r.Data.(type) {
	case offsets.OffsetCommit:
		return prefix + fmt.Sprintf("offset %s %s/%d = %d %q", d.Group, d.Topic, d.Partition, d.Value.Offset, d.Value.Metadata)
	case offsets.GroupMetadata:
		s := fmt.Sprintf("group %s generation %d type %q protocol %q leader %q", d.Group, d.Value.Generation, d.Value.ProtocolType, d.Value.Protocol, d.Value.Leader)
		for _, m := range d.Value.Members {
			s += fmt.Sprintf(" %s=%s", m.MemberID+m.InstanceID, formatAssignment(m.Assignment))
		}
		return w.names(s)
	case offsets.ConsumerGroup:
		return fmt.Sprintf("consumer group %s epoch %d", d.Group, d.Value.Epoch)
	case offsets.ConsumerMember:
		s := fmt.Sprintf("member %s topics %v regex %q instance %q", d.MemberID, d.Value.SubscribedTopicNames, d.Value.SubscribedTopicRegex, d.Value.InstanceID)
		if d.Value.Classic != nil {
			s += " classic"
		}
		return w.names(s)
	case offsets.ConsumerTargetEpoch:
		return fmt.Sprintf("target epoch %d", d.Value.Epoch)
	case offsets.ConsumerTarget:
		return w.names(fmt.Sprintf("target %s %s", d.MemberID, formatSet(d.Value.Partitions)))
	case offsets.ConsumerCurrent:
		return w.names(fmt.Sprintf("current %s epoch %d state %d assigned %s revoking %s", d.MemberID, d.Value.MemberEpoch, d.Value.State,
			formatSet(d.Value.Assigned), formatSet(d.Value.PendingRevocation)))
	case offsets.ConsumerRegex:
		return fmt.Sprintf("regex %s = %v", d.Regex, d.Value.Topics)
	}
	return fmt.Sprintf("%+v", r)
}

func formatSet(set partitionSet) string {
	var parts []string
	for _, t := range set {
		parts = append(parts, strings.TrimRight(string(t.TopicID[:]), "\x00")+strings.ReplaceAll(fmt.Sprint(t.Partitions), " ", ","))
	}
	return "{" + strings.Join(parts, " ") + "}"
}

func (w *conversation) formatReply(r Reply) string {
	code := func(c kafka.ErrorCode) string {
		if c == kafka.None {
			return "ok"
		}
		return c.String()
	}
	var s string
	switch x := r.Response.(type) {
	case *JoinGroupResponse:
		w.ids[fmt.Sprintf("#%d", r.Ticket)] = x.MemberID
		if r.Ticket == w.ticket {
			w.ids["#last"] = x.MemberID
		}
		s = "join " + code(x.Err) + " member " + x.MemberID
		if x.Err == kafka.None {
			s += fmt.Sprintf(" generation %d %s/%s leader %s", x.Generation, x.ProtocolType, x.ProtocolName, x.Leader)
			if x.SkipAssignment {
				s += " skip-assignment"
			}
			for _, m := range x.Members {
				s += fmt.Sprintf(" [%s %s %q]", m.MemberID, m.InstanceID, m.Metadata)
			}
		}
	case *SyncGroupResponse:
		s = fmt.Sprintf("sync %s %s/%s %s", code(x.Err), x.ProtocolType, x.ProtocolName, formatAssignment(x.Assignment))
	case *HeartbeatResponse:
		s = "heartbeat " + code(x.Err)
	case *LeaveGroupResponse:
		s = "leave " + code(x.Err)
		for _, m := range x.Members {
			s += " " + m.MemberID + m.InstanceID + ":" + code(m.Err)
		}
	case *OffsetCommitResponse:
		s = fmt.Sprintf("commit %v", x.Codes)
	case *TxnOffsetCommitResponse:
		s = fmt.Sprintf("txn-commit %v", x.Codes)
	case *TxnMarkerResponse:
		s = "marker " + code(x.Err)
	case *OffsetFetchResponse:
		s = "fetch " + code(x.Err)
		for _, t := range x.Topics {
			for _, p := range t.Partitions {
				s += fmt.Sprintf(" %s/%d=%d", t.Topic, p.Partition, p.Offset)
				if p.LeaderEpoch >= 0 {
					s += fmt.Sprintf(" epoch %d", p.LeaderEpoch)
				}
				if p.Metadata != "" || p.Err != 0 {
					s += fmt.Sprintf(" %q %s", p.Metadata, code(p.Err))
				}
			}
		}
	case *OffsetDeleteResponse:
		s = fmt.Sprintf("offset-delete %s %v", code(x.Err), x.Codes)
	case *DescribeGroupResponse:
		s = fmt.Sprintf("describe %s %s state %s type %q protocol %q", code(x.Err), x.Message, x.State, x.ProtocolType, x.Protocol)
		for _, m := range x.Members {
			s += fmt.Sprintf(" [%s %s %s %s %q %q]", m.MemberID, m.InstanceID, m.ClientID, m.ClientHost, m.Metadata, m.Assignment)
		}
	case *ListGroupsResponse:
		s = fmt.Sprintf("list %v", x.Groups)
	case *DeleteGroupResponse:
		s = "delete " + code(x.Err)
	case *TopicsDeletedResponse:
		s = "topics-deleted " + code(x.Err)
	case *ConsumerGroupHeartbeatResponse:
		if s = "chb " + code(x.Err) + " " + x.Message; x.Err == kafka.None {
			s = fmt.Sprintf("chb ok member %s epoch %d", x.MemberID, x.MemberEpoch)
			if x.HasAssignment {
				s += " assignment " + formatSet(x.Assignment)
			}
		}
	case *ConsumerGroupDescribeResponse:
		s = fmt.Sprintf("cdescribe %s %s state %s epoch %d assignment epoch %d assignor %s", code(x.Err), x.Message, x.State, x.Epoch, x.AssignmentEpoch, x.Assignor)
		for _, m := range x.Members {
			s += fmt.Sprintf(" [%s epoch %d %v %v]", m.MemberID, m.MemberEpoch, m.Assignment, m.Target)
		}
	}
	return w.names(s)
}
