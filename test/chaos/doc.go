// Package chaos holds tests that harm running chronik processes and check what
// was promised to their clients.
//
// The default share takes well under a minute. CHRONIK_LONG=1 (or -long) runs
// the sizes that acceptance needs; -v shows the figures.
package chaos
