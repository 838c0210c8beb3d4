package api

import "chronik/internal/base/kafka"

// readAhead has the disk read what the client is going to ask for next, while it
// gets what it was answered: of partitions that had no room in the answer first,
// since they come first in the next one.
func (op *fetchOp) readAhead() {
	size := op.client.fetched.bufferBytes(len(op.slots))
	if size == smallBufferBytes { // it is at the end
		return
	}
	left := op.maxBytes
	for _, served := range [...]bool{false, true} {
		for i := range op.slots {
			slot := &op.slots[i]
			n := min(left, size, int(op.session.Partitions[i].MaxBytes))
			if n <= 0 || slot.code != kafka.None || (len(slot.records) > 0) != served || slot.next >= slot.result.HighWatermark {
				continue
			}
			hosted, next := slot.hosted, slot.next
			read := func() { hosted.ReadAhead(next, n) }
			if left -= n; op.server.Ahead != nil {
				op.server.Ahead(read)
			} else {
				read()
			}
		}
	}
}
