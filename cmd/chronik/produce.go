package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// produceOptions are what producing commands share.
type produceOptions struct {
	acks        string
	compression string
}

func (o *produceOptions) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.acks, "acks", "all", "when a record counts as written: all, 1 or 0")
	cmd.Flags().StringVarP(&o.compression, "compression", "z", "none", "none, gzip, snappy, lz4 or zstd")
}

func (o *produceOptions) client() ([]kgo.Opt, error) {
	options := []kgo.Opt{}
	switch o.acks {
	case "all", "-1":
	case "1":
		options = append(options, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		options = append(options, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, oneOf("acks", o.acks, "all", "1", "0")
	}
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	codec, ok := codecs[o.compression]
	if !ok {
		return nil, oneOf("compression", o.compression, "none", "gzip", "snappy", "lz4", "zstd")
	}
	return append(options, kgo.ProducerBatchCompression(codec)), nil
}

type produceCommand struct {
	cluster   *cluster
	options   produceOptions
	topic     string
	delimiter string
	headers   []string
	partition int32
	nulls     bool
	verbose   bool

	batchMax int32 // bytes of a batch
}

// Bytes of a batch: what topics take by default, and what a client may send.
const (
	batchUsual = 1_000_012
	batchLeast = 512
	batchMost  = 100 << 20
)

func newProduce() *cobra.Command {
	p := &produceCommand{batchMax: batchUsual}
	cmd := &cobra.Command{
		Use:   "produce -t TOPIC [FILE...]",
		Short: "Write each line of standard input or of files as a record",
		Example: `  seq 1000 | chronik produce -t numbers
  echo 'alice:42' | chronik produce -t scores -k : -H source=shell`,
		Args: cobra.ArbitraryArgs,
	}
	p.cluster = addCluster(cmd)
	p.options.add(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&p.topic, "topic", "t", "", "topic to write to")
	flags.StringVarP(&p.delimiter, "key-delimiter", "k", "", "what stands between the key and the value of a line; none: lines are values")
	flags.StringArrayVarP(&p.headers, "header", "H", nil, "NAME=VALUE of a header for every record; may be repeated")
	flags.Int32VarP(&p.partition, "partition", "p", -1, "partition to write to; -1: by key, or spread")
	flags.BoolVarP(&p.nulls, "null", "Z", false, "write empty values as null (tombstones)")
	flags.BoolVarP(&p.verbose, "verbose", "v", false, "print topic, partition and offset of each record")
	cmd.RunE = trying(p.run)
	return cmd
}

func (p *produceCommand) run(cmd *cobra.Command, args []string) error {
	if p.topic == "" {
		return usage("flag --topic is missing: which topic to write to")
	}
	if p.partition < -1 {
		return usage("flag --partition: got %d, takes a number from 0 on, or -1: by key, or spread", p.partition)
	}
	options, err := p.options.client()
	if err != nil {
		return err
	}
	headers, err := pairs("header", p.headers)
	if err != nil {
		return err
	}
	options = append(options, kgo.DefaultProduceTopic(p.topic), kgo.AllowAutoTopicCreation(),
		kgo.ProducerBatchMaxBytesFn(func(string) int32 { return p.batchMax })) // asked when the first record comes
	if p.partition >= 0 {
		options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	client, err := p.cluster.connect(cmd.Context(), options...)
	if err != nil {
		return err
	}
	defer client.Close()
	if p.partition >= 0 {
		if err := p.hasPartition(cmd.Context(), client); err != nil {
			return err
		}
	}
	p.followTopic(cmd.Context(), client)
	w := &lineWriter{p: p, client: client, out: cmd.OutOrStdout(), broken: make(chan struct{})}
	for _, h := range headers {
		w.headers = append(w.headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	if len(args) == 0 {
		args = []string{"-"}
	}
	for _, name := range args {
		if err := w.file(cmd.Context(), name, cmd.InOrStdin()); err != nil {
			w.fail(err)
			break
		}
	}
	if err := client.Flush(cmd.Context()); err != nil && client.BufferedProduceRecords() > 0 {
		w.fail(fmt.Errorf("interrupted before all records were written: %w", err))
	}
	return w.err
}

// followTopic has batches be as large as the topic takes. One that does not exist
// yet, or that this client may not ask about, is taken for a usual one.
func (p *produceCommand) followTopic(ctx context.Context, client *kgo.Client) {
	ctx, cancel := context.WithTimeout(ctx, min(p.cluster.timeout, describePatience))
	defer cancel()
	described, err := kadm.NewClient(client).DescribeTopicConfigs(ctx, p.topic)
	if err != nil {
		return
	}
	for _, r := range described {
		for _, c := range r.Configs {
			if n, err := strconv.ParseInt(c.MaybeValue(), 10, 32); c.Key == "max.message.bytes" && err == nil {
				p.batchMax = int32(min(max(n, batchLeast), batchMost))
			}
		}
	}
}

// hasPartition refuses a partition that the topic does not have; a topic that
// does not exist may be made by writing to it.
func (p *produceCommand) hasPartition(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, p.cluster.timeout)
	defer cancel()
	details, err := kadm.NewClient(client).ListTopicsWithInternal(ctx, p.topic)
	if err != nil {
		return explain("look up topic "+p.topic, err, "")
	}
	d, found := details[p.topic]
	if !found || d.Err != nil || p.partition < int32(len(d.Partitions)) {
		return nil
	}
	return noPartition("write to topic", p.topic, p.partition, len(d.Partitions))
}

// lineWriter turns lines into records.
type lineWriter struct {
	p       *produceCommand
	client  *kgo.Client
	headers []kgo.RecordHeader
	out     io.Writer

	broken chan struct{} // closed with the first error
	mu     sync.Mutex
	err    error // the first
}

func (w *lineWriter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
		close(w.broken)
	}
}

func (w *lineWriter) file(ctx context.Context, name string, stdin io.Reader) error {
	from := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("read records: %w", err)
		}
		defer f.Close()
		from = f
	} else {
		name = "standard input"
	}
	// Whoever types, or the command before this one, may not write for long: an
	// interrupt, or an error of what was written, is not to wait for that.
	type input struct {
		line string
		err  error
	}
	lines, done := make(chan input, 64), make(chan struct{})
	defer close(done)
	go func() {
		r := bufio.NewReaderSize(from, 64<<10)
		for {
			line, err := r.ReadString('\n')
			select {
			case lines <- input{line, err}:
			case <-done:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for number := 1; ; number++ {
		var in input
		select {
		case in = <-lines:
		case <-ctx.Done():
			return nil
		case <-w.broken:
			return nil
		}
		if in.line != "" {
			w.record(ctx, fmt.Sprintf("%s, line %d", name, number), strings.TrimSuffix(in.line, "\n"))
		}
		if errors.Is(in.err, io.EOF) {
			return nil
		}
		if in.err != nil {
			return fmt.Errorf("read records: %s: %w", name, in.err)
		}
	}
}

func (w *lineWriter) record(ctx context.Context, where, line string) {
	r := &kgo.Record{Headers: w.headers, Partition: max(w.p.partition, 0)}
	value := line
	if w.p.delimiter != "" {
		key, rest, found := strings.Cut(line, w.p.delimiter)
		if !found {
			w.fail(fmt.Errorf("%s: %q has no %q between key and value", where, abridged(line), w.p.delimiter))
			return
		}
		r.Key, value = []byte(key), rest
	}
	if value != "" || !w.p.nulls {
		r.Value = []byte(value)
	}
	w.client.Produce(ctx, r, func(r *kgo.Record, err error) {
		if err != nil {
			w.fail(explain("write to topic "+w.p.topic+" ("+where+")", err, ""))
			return
		}
		if w.p.verbose {
			w.mu.Lock()
			if w.p.options.acks == "0" {
				fmt.Fprintf(w.out, "%s %d -\n", r.Topic, r.Partition) // nobody has said which offset
			} else {
				fmt.Fprintf(w.out, "%s %d %d\n", r.Topic, r.Partition, r.Offset)
			}
			w.mu.Unlock()
		}
	})
}

func abridged(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
