package broker

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
)

// A compaction rests, as its rate asks for, while its log fails, is opened anew
// and is compacted anew: what becomes of the former is not mixed up with that.
func TestLogThatIsOpenedAnewIsCompactedBesideItsFormerSelf(t *testing.T) {
	w := newWorld(t, 3)
	set := func(name, value string) controller.ConfigChange {
		return controller.ConfigChange{ConfigValue: controller.ConfigValue{Name: name, Value: &value}}
	}
	done := false
	w.nodes[1].b.Control(w.now, controller.IncrementalAlterConfigs{Resources: []controller.ResourceChanges{{
		Resource: metadata.ConfigResource{Type: metadata.ResourceBroker},
		Changes:  []controller.ConfigChange{set("log.cleaner.threads", "2"), set("log.cleaner.io.max.bytes.per.second", "4096")},
	}}}, 10*time.Second, func(r controller.Response, _ kafka.ErrorCode) {
		res := r.(controller.AlterConfigsResult).Resources[0]
		if done = true; res.Error != kafka.None {
			t.Fatal(res)
		}
	})
	w.until("configs set", func() bool { return done })
	w.create(map[string]string{"cleanup.policy": "compact", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01"}, 300)
	w.now = w.now.Add(2 * time.Second)
	w.produce(1)
	n := w.nodes[w.partition().Leader%3+1]
	runs := func() int { return len(n.b.cleaning.running) }
	w.until("compaction runs", func() bool { return runs() == 1 })
	n.faults.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && strings.Contains(op.Name, "t-0") {
			return syscall.EIO
		}
		return nil
	})
	p := w.replicaOf(n.id)
	w.produce(1)
	w.until("failed", func() bool { return p.Failure() != nil })
	n.faults.SetHook(nil)
	w.until("compacted anew", func() bool { return w.replicaOf(n.id) != p && runs() == 2 })
	if s := n.b.Cleaning(); len(s.Running) != 1 {
		t.Errorf("%d compactions of one log are shown", len(s.Running))
	}
	w.until("all done", func() bool { return runs() == 0 })
	if g := n.b.cleaning.granted; g != 0 {
		t.Errorf("memory granted to nobody: %d", g)
	}
	if s := n.b.Cleaning(); s.Passes == 0 || len(s.Running) > 0 {
		t.Errorf("%+v", s)
	}
}

// A disk fails while a log is compacted. Its log is opened anew, and compacted
// then and not an hour later.
func TestLogThatFailsWhileItIsCompactedIsCompactedWhenItIsOpenedAnew(t *testing.T) {
	w := newWorld(t, 3)
	w.create(map[string]string{"cleanup.policy": "compact", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01"}, 300)
	n := w.nodes[w.partition().Leader%3+1]
	n.faults.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && strings.Contains(op.Name, "t-0") && strings.HasSuffix(op.Name, ".tmp") {
			return syscall.EIO
		}
		return nil
	})
	p := w.replicaOf(n.id)
	w.now = w.now.Add(2 * time.Second)
	w.produce(1)
	w.until("failed", func() bool { return p.Failure() != nil && n.b.Cleaning().Failures > 0 })
	n.faults.SetHook(nil)
	began := w.now
	w.until("compacted", func() bool { return n.b.Cleaning().Passes > 0 })
	if s := n.b.Cleaning(); len(s.Uncleanable) > 0 || w.now.Sub(began) > cleaningRetryAfter/2 {
		t.Errorf("after %v: %+v", w.now.Sub(began), s)
	}
}

// There is no space for a compaction, which is what would make some. Nothing is
// wrong with the log: once there is space it is compacted, and not an hour later.
func TestLogIsCompactedSoonAfterTheDiskWasFull(t *testing.T) {
	w := newWorld(t, 3)
	w.create(map[string]string{"cleanup.policy": "compact", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01"}, 300)
	n := w.nodes[w.partition().Leader%3+1]
	n.faults.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite && strings.Contains(op.Name, "t-0") && strings.HasSuffix(op.Name, ".tmp") {
			return vfs.ErrNoSpace
		}
		return nil
	})
	w.now = w.now.Add(2 * time.Second)
	w.produce(1)
	w.until("failed", func() bool { return n.b.Cleaning().Failures > 0 })
	n.faults.SetHook(nil)
	began := w.now
	w.until("compacted", func() bool { return n.b.Cleaning().Passes > 0 })
	if s := n.b.Cleaning(); len(s.Uncleanable) > 0 || w.now.Sub(began) > time.Minute {
		t.Errorf("after %v: %+v", w.now.Sub(began), s)
	}
	if err := w.replicaOf(n.id).Failure(); err != nil {
		t.Errorf("the log has failed: %v", err)
	}
}
