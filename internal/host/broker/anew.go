package broker

import (
	"errors"
	"fmt"
	"path"

	"chronik/internal/base/vfs"
	"chronik/internal/core/metadata"
	"chronik/internal/host/raftlog"
)

// ErrMetadataDamaged means that a node's files of the metadata quorum are not
// as they were written. What it has voted and acknowledged is not known, so
// that it may come back only as another member (Options.Anew): the partitions'
// logs are of use all the same.
var ErrMetadataDamaged = errors.New("the metadata of this node are damaged")

// enterAnew sets damaged metadata aside and makes the first state of a member
// that joins. That it is another one is on disk before anything else.
func (b *Broker) enterAnew(dir string) error {
	was := b.identity.Incarnation
	for b.identity.Incarnation == was || b.identity.Incarnation == 0 {
		b.identity.Incarnation = b.env.Rand.Uint32()
	}
	b.identity.Founders, b.identity.Entering = nil, true
	if err := b.identity.save(); err != nil {
		return err
	}
	aside := path.Join(b.asideDir(), "__meta.damaged")
	for i := 1; ; i++ {
		if _, err := b.env.FS.Stat(aside); errors.Is(err, vfs.ErrNotExist) {
			break
		}
		aside = path.Join(b.asideDir(), fmt.Sprintf("__meta.damaged.%d", i))
	}
	if err := b.move(dir, aside); err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return fmt.Errorf("set damaged metadata aside: %w", err)
	}
	b.env.Log.Warn("damaged metadata were set aside; this node comes back as another member of the quorum", "node", b.opts.Node, "moved_to", aside)
	if err := raftlog.Bootstrap(b.env.FS, dir, nil, metadata.Empty().EncodeSnapshot(nil)); err != nil {
		return fmt.Errorf("make metadata in %s: %w", dir, err)
	}
	b.identity.Entering = false
	return b.identity.save()
}
