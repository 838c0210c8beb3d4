package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/storage/statefile"
)

const (
	lockFile     = "lock"
	identityFile = "identity"
	cleanFile    = "clean-shutdown"
)

// identity says whose files a data directory holds. It never changes but for
// the cluster id, which is not known before the first contact with the cluster.
type identity struct {
	Node      kafka.NodeID `json:"node"`
	ClusterID string       `json:"cluster"`
	Directory [16]byte     `json:"directory"` // drawn when the directory was made
	// How the node came to its cluster: as a founder, or later.
	Founders    map[kafka.NodeID]string `json:"founders,omitempty"`
	Incarnation uint32                  `json:"incarnation,omitempty"` // in the quorum; 0: a founder
	Member      bool                    `json:"member,omitempty"`      // its metadata were made
	Entering    bool                    `json:"entering,omitempty"`    // they are being made anew, since they were damaged

	fs    vfs.FS
	dir   string
	lock  io.Closer
	fresh bool
	clean bool // the last process to use it stopped cleanly
}

func openIdentity(fs vfs.FS, dir string, node kafka.NodeID, rng *rand.Rand) (identity, error) {
	id := identity{Node: node, fs: fs, dir: dir}
	if err := vfs.MkdirDurable(fs, dir); err != nil {
		return id, fmt.Errorf("make data directory %s: %w", dir, err)
	}
	var err error
	if id.lock, err = fs.Lock(path.Join(dir, lockFile)); err != nil {
		if errors.Is(err, vfs.ErrLocked) {
			return id, fmt.Errorf("data directory %s is in use by another process: %w", dir, err)
		}
		return id, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	data, err := statefile.Load(fs, path.Join(dir, identityFile))
	switch {
	case errors.Is(err, statefile.ErrNotFound):
		for i := 0; i < len(id.Directory); i += 8 {
			for j, v := 0, rng.Uint64(); j < 8; j, v = j+1, v>>8 {
				id.Directory[i+j] = byte(v)
			}
		}
		id.fresh = true
		return id, id.save()
	case err != nil:
		return id, fmt.Errorf("read identity of data directory %s: %w", dir, err)
	}
	if err := json.Unmarshal(data, &id); err != nil {
		return id, fmt.Errorf("read identity of data directory %s: %w", dir, err)
	}
	if id.Node != node {
		return id, fmt.Errorf("data directory %s belongs to node %d, but this process was started as node %d: give it --node-id %d or another --data-dir", dir, id.Node, node, id.Node)
	}
	_, err = statefile.Load(fs, path.Join(dir, cleanFile))
	id.clean = err == nil
	return id, nil
}

// use removes the mark of a clean stop: from now on the directory is written.
func (id *identity) use() error {
	if !id.clean {
		return nil
	}
	mark := path.Join(id.dir, cleanFile)
	if err := id.fs.Remove(mark); err != nil {
		return fmt.Errorf("remove %s: %w", mark, err)
	}
	if err := id.fs.SyncDir(id.dir); err != nil {
		return fmt.Errorf("remove %s: %w", mark, err)
	}
	return nil
}

// setCluster notes the cluster's id the first time it is known, and refuses
// another one.
func (id *identity) setCluster(cluster string) error {
	if id.ClusterID == cluster {
		return nil
	}
	if id.ClusterID != "" {
		return fmt.Errorf("data directory %s belongs to cluster %s, but the metadata say cluster %s: it was moved or mixed up; start with the right --data-dir", id.dir, id.ClusterID, cluster)
	}
	id.ClusterID = cluster
	return id.save()
}

func (id *identity) save() error {
	data, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if err := statefile.Save(id.fs, path.Join(id.dir, identityFile), data); err != nil {
		return fmt.Errorf("write identity of data directory %s: %w", id.dir, err)
	}
	return nil
}

// markClean says that everything in the directory was synced by a process that
// then stopped by itself.
func (id *identity) markClean() error {
	return statefile.Save(id.fs, path.Join(id.dir, cleanFile), []byte("clean"))
}
