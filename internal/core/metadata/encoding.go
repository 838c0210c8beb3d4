package metadata

import "errors"

// ErrCorrupt is the kind of error for bytes that no version of this software wrote.
var ErrCorrupt = errors.New("metadata is corrupt")

// ErrNewer is the kind of error for records that only a newer version of this
// software understands.
var ErrNewer = errors.New("metadata was written by a newer version of chronik; upgrade this node")
