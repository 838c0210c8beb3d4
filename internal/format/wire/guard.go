package wire

import "fmt"

// Budget is what a body of that many bytes may take in memory once decoded:
// 64 KiB and sixteen times its size up to 4 MiB, beyond that four times its
// size. Requests that clients really send stay far below: ten thousand topics
// in a Metadata request take half a megabyte.
func Budget(bodyBytes int) int {
	return max(min(budgetBase+budgetSmall*bodyBytes, budgetKnee), budgetLarge*bodyBytes)
}

const (
	budgetBase  = 64 << 10
	budgetSmall = 16
	budgetKnee  = 4 << 20
	budgetLarge = 4
)

// Guard walks the body of a request without decoding it and says whether
// kmsg may see it. It passes what Kafka would read and returns
//   - ErrUnknownKey or ErrUnknownVersion for what is not in the table,
//   - ErrMalformed for a length, count or tag that the rest of the body
//     cannot hold, a null where none is allowed, and a tag that only later
//     versions know,
//   - ErrBudget for what would take more than [Budget] to decode.
//
// Its time is bounded by the body's bytes, and it allocates only for errors.
func Guard(key, version int16, body []byte) error {
	p, err := programOf(key, version)
	if err != nil {
		return fmt.Errorf("guard request: key %d version %d: %w", key, version, err)
	}
	w := walker{rest: body, budget: Budget(len(body))}
	err = w.take(p.bytes)
	if err == nil && copiesBody(key) {
		err = w.take(allocated(len(body)))
	}
	if err == nil {
		err = w.run(p.steps)
	}
	if err != nil {
		return fmt.Errorf("guard request: key %d version %d: byte %d of %d: %w",
			key, version, len(body)-len(w.rest), len(body), err)
	}
	return nil
}

func programOf(key, version int16) (*program, error) {
	if schemaOf(key) == nil {
		return nil, ErrUnknownKey
	}
	if version < 0 || int(version) >= len(programs[key]) {
		return nil, ErrUnknownVersion
	}
	return &programs[key][version], nil
}
