//go:build race

package record

// raceDetector is on: pools then drop what they are given at random.
func init() { raceDetector = true }
