package server

import (
	"strconv"
	"strings"
	"time"

	"chronik/internal/edge/metrics"
)

// What a scrape reads of compaction on this node.
var cleaningMetrics = []metrics.Metric{
	{Kind: metrics.Gauge, Name: "chronik_compaction_logs", Help: "Logs of compacted topics on this node."},
	{Kind: metrics.Gauge, Name: "chronik_compaction_logs_dirty", Help: "Those in which there was something to compact when they were last looked at."},
	{Kind: metrics.Gauge, Name: "chronik_compaction_dirty_ratio_max", Help: "The largest share of a log that was to be compacted then (min.cleanable.dirty.ratio)."},
	{Kind: metrics.Gauge, Name: "chronik_compaction_looked_timestamp_seconds", Help: "When logs were last looked at, since 1970; it stands still when compaction has stopped."},
	{Kind: metrics.Gauge, Name: "chronik_compaction_finished_timestamp_seconds", Help: "When the last compaction ended, since 1970; 0: none has."},
	{Kind: metrics.Gauge, Name: "chronik_compaction_progress_ratio", Help: "How much is done of each compaction that runs, 0 to 1.", Labels: []string{"topic", "partition"}},
	{Kind: metrics.Gauge, Name: "chronik_compaction_running_seconds", Help: "For how long each has run.", Labels: []string{"topic", "partition"}},
	{Kind: metrics.Gauge, Name: "chronik_compaction_memory_bytes", Help: "Memory for the keys of all that run, at most."},
	{Kind: metrics.Gauge, Name: "chronik_compaction_memory_bytes_max", Help: "What they may take together (log.cleaner.dedupe.buffer.size)."},
	{Kind: metrics.Gauge, Name: "chronik_compaction_failed", Help: "1 for each log that could not be compacted and why; it is tried again an hour later, or soon if the disk was full.", Labels: []string{"topic", "partition", "cause"}},
	{Kind: metrics.Counter, Name: "chronik_compaction_passes_total", Help: "Compactions that were completed."},
	{Kind: metrics.Counter, Name: "chronik_compaction_failures_total", Help: "Compactions that failed."},
	{Kind: metrics.Counter, Name: "chronik_compaction_read_bytes_total", Help: "Bytes that compaction has read."},
	{Kind: metrics.Counter, Name: "chronik_compaction_written_bytes_total", Help: "Bytes that it has written."},
	{Kind: metrics.Counter, Name: "chronik_compaction_freed_bytes_total", Help: "Bytes by which logs have become shorter."},
	{Kind: metrics.Counter, Name: "chronik_compaction_removed_records_total", Help: "Records that it has removed."},
}

var cleaningIndex = indexOf(cleaningMetrics)

// causeMax is how much of an error goes into a label.
const causeMax = 160

func (n *node) readCleaning(emit func(metrics.Sample)) {
	put := func(name string, value float64, labels ...string) {
		emit(metrics.Sample{Metric: cleaningIndex["chronik_compaction_"+name], Value: value, Labels: labels})
	}
	seconds := func(t time.Time) float64 {
		if t.IsZero() {
			return 0
		}
		return float64(t.UnixMilli()) / 1000
	}
	s := n.broker.Cleaning()
	put("logs", float64(s.Logs))
	put("logs_dirty", float64(s.DirtyLogs))
	put("dirty_ratio_max", s.DirtyRatioMax)
	put("looked_timestamp_seconds", seconds(s.LookedAt))
	put("finished_timestamp_seconds", seconds(s.FinishedAt))
	memory := int64(0)
	for _, r := range s.Running {
		memory += r.Memory
		labels := []string{r.Topic, strconv.Itoa(int(r.Partition))}
		put("progress_ratio", r.Progress, labels...)
		put("running_seconds", max(time.Since(r.Since), 0).Seconds(), labels...)
	}
	put("memory_bytes", float64(memory))
	put("memory_bytes_max", float64(s.MemoryMax))
	for _, u := range s.Uncleanable {
		cause := strings.ToValidUTF8(u.Cause[:min(len(u.Cause), causeMax)], "")
		put("failed", 1, u.Topic, strconv.Itoa(int(u.Partition)), cause)
	}
	put("passes_total", float64(s.Passes))
	put("failures_total", float64(s.Failures))
	put("read_bytes_total", float64(s.BytesRead))
	put("written_bytes_total", float64(s.BytesWritten))
	put("freed_bytes_total", float64(s.BytesFreed))
	put("removed_records_total", float64(s.Removed))
}
