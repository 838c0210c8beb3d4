package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type consumeCommand struct {
	cluster    *cluster
	topics     []string
	group      string
	partitions []int32
	from       string
	format     string
	output     string
	count      int64
	exitAtEnd  bool
	committed  bool

	printed int64
	write   func(io.Writer, *kgo.Record) error
}

func newConsume() *cobra.Command {
	c := &consumeCommand{}
	cmd := &cobra.Command{
		Use:   "consume -t TOPIC",
		Short: "Print the records of topics",
		Long: `Print the records of topics. Without a group nothing is committed.

A format may contain %t topic, %p partition, %o offset, %T timestamp in ms, %k key,
%K key length (-1: null), %s value, %S value length (-1: null), %h headers, %% percent,
and \n, \t, \\.`,
		Example: `  chronik consume -t orders -e
  chronik consume -t orders -g billing
  chronik consume -t orders -p 0 --from 1000 -n 10 -f '%o %k=%s\n'
  chronik consume -t orders --from 2026-01-31T12:00:00Z -o json`,
		Args: noArguments,
	}
	c.cluster = addCluster(cmd)
	flags := cmd.Flags()
	flags.StringArrayVarP(&c.topics, "topic", "t", nil, "topic to read; may be repeated")
	flags.StringVarP(&c.group, "group", "g", "", "read as a member of this group, and commit")
	flags.Int32SliceVarP(&c.partitions, "partition", "p", nil, "partitions to read; none: all")
	flags.StringVar(&c.from, "from", "beginning", "beginning, end, an offset, -N (the last N of each partition) or an RFC 3339 time; for a group only where it has committed nothing")
	flags.StringVarP(&c.format, "format", "f", `%s\n`, "how a record is printed")
	flags.StringVarP(&c.output, "output", "o", "text", "text or json (one object per line)")
	flags.Int64VarP(&c.count, "count", "n", 0, "exit after so many records; 0: do not")
	flags.BoolVarP(&c.exitAtEnd, "exit", "e", false, "exit at what was the end when the command began")
	flags.BoolVar(&c.committed, "read-committed", false, "skip records of open and aborted transactions")
	cmd.RunE = trying(c.run)
	return cmd
}

// startAt reads the --from flag.
func startAt(from string) (kgo.Offset, error) {
	switch from {
	case "beginning":
		return kgo.NewOffset().AtStart(), nil
	case "end":
		return kgo.NewOffset().AtEnd(), nil
	}
	if n, err := strconv.ParseInt(from, 10, 64); err == nil {
		if n < 0 {
			return kgo.NewOffset().AtEnd().Relative(n), nil
		}
		return kgo.NewOffset().At(n), nil
	}
	if at, err := time.Parse(time.RFC3339, from); err == nil {
		return kgo.NewOffset().AfterMilli(at.UnixMilli()), nil
	}
	return kgo.Offset{}, usage("flag --from: got %q, takes beginning, end, an offset, -N or a time such as 2026-01-31T12:00:00Z", from)
}

func (c *consumeCommand) check() (kgo.Offset, error) {
	if len(c.topics) == 0 {
		return kgo.Offset{}, usage("flag --topic is missing: which topic to read")
	}
	if err := oneOf("output", c.output, "text", "json"); err != nil {
		return kgo.Offset{}, err
	}
	if c.group != "" && len(c.partitions) > 0 {
		return kgo.Offset{}, usage("flags --group and --partition: got both, takes one: a group shares out the partitions itself")
	}
	for _, p := range c.partitions {
		if p < 0 {
			return kgo.Offset{}, usage("flag --partition: got %d, takes numbers from 0 on", p)
		}
	}
	if c.count < 0 {
		return kgo.Offset{}, usage("flag --count: got %d, takes 0 or more", c.count)
	}
	c.write = writeRecordJSON
	if c.output == "text" {
		f, err := parseFormat(c.format)
		if err != nil {
			return kgo.Offset{}, err
		}
		c.write = f
	}
	return startAt(c.from)
}

func (c *consumeCommand) run(cmd *cobra.Command, args []string) error {
	start, err := c.check()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	progress := &progress{left: map[topicPartition]int64{}, from: map[topicPartition]int64{}}
	options := []kgo.Opt{kgo.ConsumeResetOffset(start), kgo.FetchMaxWait(500 * time.Millisecond)}
	if c.committed {
		options = append(options, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if c.exitAtEnd {
		// The last record of a partition may be a transaction's marker.
		options = append(options, kgo.KeepControlRecords())
	}
	if c.group != "" {
		options = append(options, kgo.ConsumerGroup(c.group), kgo.ConsumeTopics(c.topics...), kgo.AutoCommitMarks())
		if c.exitAtEnd || c.fromOffset() {
			options = append(options, kgo.OnPartitionsAssigned(func(ctx context.Context, client *kgo.Client, assigned map[string][]int32) {
				progress.fail(c.limit(ctx, client, progress, assigned, cmd.ErrOrStderr()))
			}), kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, revoked map[string][]int32) {
				client.CommitMarkedOffsets(ctx) //nolint:errcheck // who reads on begins where the last commit was
				progress.drop(revoked)
			}))
		}
	}
	client, err := c.cluster.connect(ctx, options...)
	if err != nil {
		return err
	}
	defer client.Close()
	assigned, err := c.resolve(ctx, client)
	if err != nil {
		return err
	}
	if c.group == "" {
		if c.exitAtEnd || c.fromOffset() {
			if err := c.limit(ctx, client, progress, assigned, cmd.ErrOrStderr()); err != nil {
				return err
			}
		}
		from := map[string]map[int32]kgo.Offset{}
		for topic, partitions := range assigned {
			from[topic] = map[int32]kgo.Offset{}
			for _, p := range partitions {
				from[topic][p] = start
			}
		}
		client.AddConsumePartitions(from)
	}
	err = c.poll(ctx, cmd.OutOrStdout(), client, progress)
	if c.group != "" {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cluster.timeout)
		defer cancel()
		if commitErr := client.CommitMarkedOffsets(ctx); err == nil {
			err = explain("commit offsets of group "+c.group, commitErr, "")
		}
		client.LeaveGroup()
	}
	return err
}

// resolve finds the partitions of the topics, or says which do not exist.
func (c *consumeCommand) resolve(ctx context.Context, client *kgo.Client) (map[string][]int32, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cluster.timeout)
	defer cancel()
	details, err := kadm.NewClient(client).ListTopicsWithInternal(ctx, c.topics...)
	if err != nil {
		return nil, explain("read topics", err, "")
	}
	assigned := map[string][]int32{}
	for _, d := range details.Sorted() {
		if d.Err != nil {
			return nil, explain("read topic "+d.Topic, d.Err, "")
		}
		if len(c.partitions) == 0 {
			assigned[d.Topic] = d.Partitions.Numbers()
			continue
		}
		for _, p := range c.partitions {
			if _, found := d.Partitions[p]; !found {
				return nil, noPartition("read topic", d.Topic, p, len(d.Partitions))
			}
			assigned[d.Topic] = append(assigned[d.Topic], p)
		}
	}
	return assigned, nil
}

func noPartition(what, topic string, partition int32, has int) error {
	return fmt.Errorf("%s %s: it has no partition %d, only 0 to %d", what, topic, partition, has-1)
}

type topicPartition struct {
	topic     string
	partition int32
}

// progress knows which partitions have not been read to their end.
type progress struct {
	mu      sync.Mutex
	known   bool
	left    map[topicPartition]int64 // the offset at which each is done
	from    map[topicPartition]int64 // where one begins that lies beyond its end: the client reads from the end
	problem error
}

func (p *progress) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.problem == nil {
		p.problem = err
	}
}

// fromOffset says whether --from is an offset, which may lie beyond the end.
func (c *consumeCommand) fromOffset() bool {
	n, err := strconv.ParseInt(c.from, 10, 64)
	return err == nil && n > 0
}

// limit notes where the partitions end, those that are at their end left out,
// and those that do not reach as far as --from says.
func (c *consumeCommand) limit(ctx context.Context, client *kgo.Client, p *progress, assigned map[string][]int32, notes io.Writer) error {
	admin := kadm.NewClient(client)
	topics := make([]string, 0, len(assigned))
	for topic := range assigned {
		topics = append(topics, topic)
	}
	listEnds := admin.ListEndOffsets
	if c.committed {
		listEnds = admin.ListCommittedOffsets
	}
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return explain("list start offsets", err, "")
	}
	ends, err := listEnds(ctx, topics...)
	if err != nil {
		return explain("list end offsets", err, "")
	}
	var own kadm.OffsetResponses
	if c.group != "" {
		if own, err = admin.FetchOffsets(ctx, c.group); err != nil {
			return explain("fetch offsets of group "+c.group, err, "")
		}
	}
	var later kadm.ListedOffsets
	if at, err := time.Parse(time.RFC3339, c.from); err == nil {
		if later, err = admin.ListOffsetsAfterMilli(ctx, at.UnixMilli(), topics...); err != nil {
			return explain("list offsets by time", err, "")
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = c.exitAtEnd
	// Of the partitions with less than --from says, the one that has most.
	var beyond *topicPartition
	var reaches, wanted int64
	short, all := 0, 0
	for topic, partitions := range assigned {
		for _, number := range partitions {
			start, _ := starts.Lookup(topic, number)
			end, _ := ends.Lookup(topic, number)
			for _, l := range []kadm.ListedOffset{start, end} {
				if l.Err != nil {
					return explain(fmt.Sprintf("list offsets of %s, partition %d", topic, number), l.Err, "")
				}
			}
			all++
			committed := false
			next := c.first(start.Offset, end.Offset)
			if l, found := later.Lookup(topic, number); found {
				next = l.Offset
			}
			if o, found := own.Lookup(topic, number); found && o.At >= 0 {
				next, committed = o.At, true
			}
			tp := topicPartition{topic, number}
			if next > end.Offset {
				if short++; beyond == nil || end.Offset > reaches {
					beyond, reaches, wanted = &tp, end.Offset, next
				}
				if !committed {
					p.from[tp] = next
				}
			}
			if next < end.Offset {
				p.left[tp] = end.Offset
			}
		}
	}
	if beyond == nil || c.committed && c.exitAtEnd {
		return nil
	}
	reach := fmt.Sprintf("partition %d ends at offset %d", beyond.partition, reaches)
	if all > 1 {
		reach += ", and no other goes on for longer"
	}
	switch {
	case !c.exitAtEnd && short == all:
		fmt.Fprintf(notes, "chronik: read %s: there is nothing from offset %d on yet: %s; waiting, Ctrl-C ends it\n", beyond.topic, wanted, reach)
	case !c.exitAtEnd:
		fmt.Fprintf(notes, "chronik: %d of %d partitions have nothing from offset %d on yet\n", short, all, wanted)
	case len(p.left) == 0:
		return fmt.Errorf("read %s: there is nothing from offset %d on: %s", beyond.topic, wanted, reach)
	}
	return nil
}

// first is the offset that --from means for a partition with these bounds.
func (c *consumeCommand) first(start, end int64) int64 {
	if c.from == "end" {
		return end
	}
	n, err := strconv.ParseInt(c.from, 10, 64)
	switch {
	case err != nil:
		return start
	case n < 0:
		return max(start, end+n)
	}
	return max(start, n)
}

// read notes that a record was read, and says whether it is wanted.
func (p *progress) read(r *kgo.Record) (wanted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	tp := topicPartition{r.Topic, r.Partition}
	if r.Offset < p.from[tp] {
		return false
	}
	if end, found := p.left[tp]; found && r.Offset+1 >= end {
		delete(p.left, tp)
	}
	return true
}

// drop forgets partitions that another member of the group reads on.
func (p *progress) drop(partitions map[string][]int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for topic, numbers := range partitions {
		for _, number := range numbers {
			delete(p.left, topicPartition{topic, number})
			delete(p.from, topicPartition{topic, number})
		}
	}
}

func (p *progress) done() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known && len(p.left) == 0, p.problem
}

func (c *consumeCommand) poll(ctx context.Context, out io.Writer, client *kgo.Client, p *progress) error {
	for {
		if done, err := p.done(); done || err != nil {
			return err
		}
		turn, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := client.PollFetches(turn)
		cancel()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // Ctrl-C is how one stops reading
		}
		for _, e := range fetches.Errors() {
			if e.Err != context.DeadlineExceeded {
				what := fmt.Sprintf("read %s, partition %d", e.Topic, e.Partition)
				if e.Topic == "" && c.group != "" {
					what = "read as a member of group " + c.group
				}
				return explain(what, e.Err, "")
			}
		}
		for i := fetches.RecordIter(); !i.Done(); {
			r := i.Next()
			if !p.read(r) {
				continue
			}
			if !r.Attrs.IsControl() {
				if err := c.write(out, r); err != nil {
					return fmt.Errorf("print record: %w", err)
				}
				c.printed++
			}
			if c.group != "" {
				client.MarkCommitRecords(r)
			}
			if c.count > 0 && c.printed == c.count {
				return nil
			}
		}
	}
}

// parseFormat compiles a format to what prints a record by it.
func parseFormat(format string) (func(io.Writer, *kgo.Record) error, error) {
	var parts []func(b []byte, r *kgo.Record) []byte
	literal := func(s string) {
		parts = append(parts, func(b []byte, _ *kgo.Record) []byte { return append(b, s...) })
	}
	for i := 0; i < len(format); i++ {
		c := format[i]
		if c != '%' && c != '\\' {
			literal(string(c))
			continue
		}
		if i++; i == len(format) {
			return nil, usage("flag --format: got %q, which ends within %q", format, string(c))
		}
		verb := format[i]
		if c == '\\' {
			escapes := map[byte]string{'n': "\n", 't': "\t", 'r': "\r", '0': "\x00", '\\': "\\"}
			s, found := escapes[verb]
			if !found {
				return nil, usage("flag --format: got %q, takes \\n, \\t, \\r, \\0 and \\\\ after a backslash", format)
			}
			literal(s)
			continue
		}
		print, found := verbs[verb]
		if !found {
			return nil, usage("flag --format: got %q, takes t p o T k K s S h and %% after a percent sign", format)
		}
		parts = append(parts, print)
	}
	var buffer []byte
	return func(w io.Writer, r *kgo.Record) error {
		buffer = buffer[:0]
		for _, part := range parts {
			buffer = part(buffer, r)
		}
		_, err := w.Write(buffer)
		return err
	}, nil
}

// verbs are what may follow a percent sign in a format.
var verbs = map[byte]func(b []byte, r *kgo.Record) []byte{
	'%': func(b []byte, r *kgo.Record) []byte { return append(b, '%') },
	't': func(b []byte, r *kgo.Record) []byte { return append(b, r.Topic...) },
	'p': func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, int64(r.Partition), 10) },
	'o': func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, r.Offset, 10) },
	'T': func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, r.Timestamp.UnixMilli(), 10) },
	'k': func(b []byte, r *kgo.Record) []byte { return append(b, r.Key...) },
	's': func(b []byte, r *kgo.Record) []byte { return append(b, r.Value...) },
	'K': func(b []byte, r *kgo.Record) []byte { return appendLength(b, r.Key) },
	'S': func(b []byte, r *kgo.Record) []byte { return appendLength(b, r.Value) },
	'h': func(b []byte, r *kgo.Record) []byte {
		for i, h := range r.Headers {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, h.Key...), '='), h.Value...)
		}
		return b
	},
}

func appendLength(b, field []byte) []byte {
	if field == nil {
		return append(b, "-1"...)
	}
	return strconv.AppendInt(b, int64(len(field)), 10)
}

// jsonRecord is a record as -o json prints it: bytes that are UTF-8 as text,
// others in base64.
type jsonRecord struct {
	Topic       string       `json:"topic"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset"`
	Timestamp   time.Time    `json:"timestamp"`
	Key         *string      `json:"key"`
	KeyBase64   []byte       `json:"key_base64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 []byte       `json:"value_base64,omitempty"`
	Headers     []jsonHeader `json:"headers,omitempty"`
}

type jsonHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

func writeRecordJSON(w io.Writer, r *kgo.Record) error {
	j := jsonRecord{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC()}
	j.Key, j.KeyBase64 = textOrBytes(r.Key)
	j.Value, j.ValueBase64 = textOrBytes(r.Value)
	for _, h := range r.Headers {
		text, raw := textOrBytes(h.Value)
		j.Headers = append(j.Headers, jsonHeader{strings.ToValidUTF8(h.Key, "\uFFFD"), text, raw})
	}
	return json.NewEncoder(w).Encode(j)
}

func textOrBytes(b []byte) (*string, []byte) {
	switch {
	case b == nil:
		return nil, nil
	case utf8.Valid(b):
		s := string(b)
		return &s, nil
	}
	return nil, b
}
