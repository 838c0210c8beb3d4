// Package chaos holds tests that harm running chronik processes and check what
// was promised to their clients. docs/chaos.md says which fault is where.
//
// The default share takes about a minute. CHRONIK_LONG=1 (or -long) runs the
// sizes that acceptance needs; -v shows the figures. Package soak mixes the
// faults for as long as it is told to.
package chaos
