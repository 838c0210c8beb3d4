// Package invariant checks conditions that only a bug can break. The checks
// run in every build: a process that has lost its mind must stop before it
// writes its opinion to disk, and recover from its log.
package invariant

import "fmt"

// Violation is the panic value of a broken invariant.
type Violation struct{ Message string }

func (v Violation) Error() string { return "invariant broken: " + v.Message }

// Check panics with a Violation unless ok holds. The message says what was
// about to go wrong: "truncates committed records".
func Check(ok bool, message string) {
	if !ok {
		panic(Violation{message})
	}
}

// Checkf is Check with a formatted message. The arguments are evaluated even
// when ok holds, so keep it off hot paths.
func Checkf(ok bool, format string, args ...any) {
	if !ok {
		panic(Violation{fmt.Sprintf(format, args...)})
	}
}
