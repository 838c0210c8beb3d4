package replica

import "slices"

// ForgetAborted forgets aborted transactions of which compaction has left no
// record.
func (r *Replica) ForgetAborted(gone []AbortedTxn) {
	ps := &r.producers
	ps.aborted = slices.DeleteFunc(ps.aborted, func(a AbortedTxn) bool { return slices.Contains(gone, a) })
}
