// Package groups tests consumer groups from outside: real processes, their
// coordinators killed and paused.
package groups
