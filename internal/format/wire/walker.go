package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

var (
	errTruncated = fmt.Errorf("length or count beyond the end: %w", ErrMalformed)
	errNull      = fmt.Errorf("null where none is allowed: %w", ErrMalformed)
	errVarint    = fmt.Errorf("varint of more than 32 bits: %w", ErrMalformed)
	errTag       = fmt.Errorf("tag of a later version: %w", ErrMalformed)
	errTagSize   = fmt.Errorf("tag of another size than its field: %w", ErrMalformed)
	errPresence  = fmt.Errorf("neither null nor present: %w", ErrMalformed)
)

const (
	stringHeaderBytes = 16
	// What a set of unknown tags takes in the map that kmsg makes for it: its
	// first tag, and each further one with all the growing on the way.
	tagMapBytes   = 400
	tagEntryBytes = 160
)

// walker moves over a body and keeps account of what decoding it would take.
type walker struct {
	rest   []byte
	budget int
}

// take spends n bytes of the budget.
func (w *walker) take(n int) error {
	w.budget -= n
	if w.budget < 0 {
		return ErrBudget
	}
	return nil
}

// allocated bounds what the allocator makes of n bytes: it rounds up to its
// size classes, and beyond 32 KiB to pages of 8 KiB.
func allocated(n int) int {
	switch {
	case n <= 0:
		return 0
	case n <= 128:
		return (n + 15) &^ 15
	case n <= 32<<10:
		return n + n/5 + 16
	default:
		return (n + 8191) &^ 8191
	}
}

func (w *walker) skip(n int) error {
	if n > len(w.rest) {
		return errTruncated
	}
	w.rest = w.rest[n:]
	return nil
}

func (w *walker) run(steps []step) error {
	for i := range steps {
		s := &steps[i]
		var err error
		switch s.op {
		case opSkip:
			err = w.skip(s.size)
		case opText, opTextCompact:
			err = w.text(s)
		case opBlob, opBlobCompact:
			err = w.blob(s)
		case opArray, opArrayCompact:
			err = w.array(s)
		case opOptional:
			err = w.optional(s)
		case opTags:
			err = w.tags(s.tags)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) text(s *step) error {
	var n int
	var err error
	if s.op == opText {
		if len(w.rest) < 2 {
			return errTruncated
		}
		n = int(int16(binary.BigEndian.Uint16(w.rest)))
		w.rest = w.rest[2:]
	} else if n, err = w.compactLength(); err != nil {
		return err
	}
	if n < 0 {
		if !s.null {
			return errNull
		}
		return nil
	}
	if n > math.MaxInt16 { // Kafka's longest string, compact or not
		return errTruncated
	}
	if s.pointer {
		if err := w.take(stringHeaderBytes); err != nil {
			return err
		}
	}
	if err := w.skip(n); err != nil {
		return err
	}
	return w.take(allocated(n))
}

func (w *walker) blob(s *step) error {
	var n int
	var err error
	if s.op == opBlob {
		if n, err = w.int32(); err != nil {
			return err
		}
	} else if n, err = w.compactLength(); err != nil {
		return err
	}
	if n < 0 {
		if !s.null {
			return errNull
		}
		return nil
	}
	return w.skip(n)
}

func (w *walker) array(s *step) error {
	var n int
	if s.op == opArray {
		var err error
		if n, err = w.int32(); err != nil {
			return err
		}
	} else {
		u, err := w.uvarint()
		if err != nil {
			return err
		}
		n = int(int32(u) - 1) // wraps as in Kafka: 2³²-1 is null, 2³¹ too many
	}
	if n < 0 {
		if !s.null {
			return errNull
		}
		return nil
	}
	if n > len(w.rest)/s.least {
		return errTruncated
	}
	if err := w.take(allocated(n * s.size)); err != nil {
		return err
	}
	if len(s.sub) == 1 && s.sub[0].op == opSkip {
		return w.skip(n * s.sub[0].size)
	}
	for range n {
		if err := w.run(s.sub); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) optional(s *step) error {
	if len(w.rest) < 1 {
		return errTruncated
	}
	present := int8(w.rest[0])
	w.rest = w.rest[1:]
	if present == -1 {
		return nil
	}
	if present < 0 { // null to Kafka, present to kmsg
		return errPresence
	}
	if err := w.take(allocated(s.size)); err != nil {
		return err
	}
	return w.run(s.sub)
}

// tags walks a set of tags. The set may have as many as its bytes can hold;
// an unknown one costs what kmsg spends on keeping it.
func (w *walker) tags(known []tagSteps) error {
	n, err := w.uvarint()
	if err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	if uint64(n)*2 > uint64(len(w.rest)) { // a tag has a number and a size
		return errTruncated
	}
	unknown := 0
	for range n {
		tag, err := w.uvarint()
		if err != nil {
			return err
		}
		size, err := w.uvarint()
		if err != nil {
			return err
		}
		if uint64(size) > uint64(len(w.rest)) {
			return errTruncated
		}
		if t := findTag(known, tag); t != nil {
			if err := w.tag(t, int(size)); err != nil {
				return err
			}
			continue
		}
		w.rest = w.rest[size:]
		cost := tagEntryBytes
		if unknown++; unknown == 1 {
			cost = tagMapBytes
		}
		if err := w.take(cost); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) unknownTags() error { return w.tags(nil) }

// tag walks the field of a known tag, which must fill its size.
func (w *walker) tag(t *tagSteps, size int) error {
	if !t.known {
		return errTag
	}
	after := w.rest[size:]
	w.rest = w.rest[:size]
	if err := w.run(t.steps); err != nil {
		return err
	}
	if len(w.rest) > 0 {
		return errTagSize
	}
	w.rest = after
	return nil
}

func findTag(known []tagSteps, tag uint32) *tagSteps {
	for i := range known {
		if known[i].tag == tag {
			return &known[i]
		}
	}
	return nil
}

func (w *walker) int32() (int, error) {
	if len(w.rest) < 4 {
		return 0, errTruncated
	}
	n := int(int32(binary.BigEndian.Uint32(w.rest)))
	w.rest = w.rest[4:]
	return n, nil
}

// compactLength reads the length of a compact string or bytes, -1 for null.
func (w *walker) compactLength() (int, error) {
	u, err := w.uvarint()
	return int(u) - 1, err
}

// uvarint reads an unsigned varint of at most 32 bits.
func (w *walker) uvarint() (uint32, error) {
	if len(w.rest) > 0 && w.rest[0] < 0x80 {
		u := uint32(w.rest[0])
		w.rest = w.rest[1:]
		return u, nil
	}
	u, n := binary.Uvarint(w.rest[:min(len(w.rest), 5)])
	if n == 0 && len(w.rest) < 5 {
		return 0, errTruncated
	}
	if n <= 0 || u > math.MaxUint32 {
		return 0, errVarint
	}
	w.rest = w.rest[n:]
	return uint32(u), nil
}
