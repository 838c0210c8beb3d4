//go:build mutants

package mutant

var active Mutant

// On says whether the bug is in force.
func On(m Mutant) bool { return active == m }

// Set puts one bug in force, or None.
func Set(m Mutant) { active = m }
