package config

import "strings"

// elsewhere says what stands here for Kafka's settings that have no row.
var elsewhere = map[string]string{
	"broker.id":                           "node-id",
	"node.id":                             "node-id",
	"log.dir":                             "data-dir",
	"log.dirs":                            "data-dir",
	"listeners":                           "kafka",
	"advertised.listeners":                "advertise-kafka",
	"broker.rack":                         "rack",
	"controller.quorum.voters":            "peers",
	"log.retention.hours":                 "log.retention.ms",
	"log.retention.minutes":               "log.retention.ms",
	"log.roll.hours":                      "log.roll.ms",
	"controller.quorum.bootstrap.servers": "join",
}

// suggest ends a sentence about an unknown name: with the name that was
// probably meant, if there is one.
func suggest(name string, spelling func(*Setting) string) string {
	plain := strings.ToLower(strings.TrimPrefix(name, envPrefix))
	best, bestDistance := "", 4
	for i := range table {
		candidate := spelling(&table[i])
		same := strings.ToLower(strings.TrimPrefix(candidate, envPrefix))
		if d := distance(squash(plain), squash(same)); d < bestDistance && 3*d < len(same) {
			best, bestDistance = candidate, d
		}
	}
	for kafkaName, here := range elsewhere {
		if squash(kafkaName) != squash(plain) {
			continue
		}
		for i := range table {
			if table[i].Name == here {
				best = spelling(&table[i])
			}
		}
	}
	if best == "" {
		return "; `chronik config --help` lists them all"
	}
	return "; did you mean " + best + "?"
}

// Nearest is the one of the names that was probably meant by another; "" if none
// is near.
func Nearest(name string, names []string) string {
	best, bestDistance := "", 4
	for _, candidate := range names {
		if d := distance(squash(strings.ToLower(name)), squash(candidate)); d < bestDistance && 3*d < len(candidate) {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// squash makes the three spellings of a name alike.
func squash(name string) string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(name)
}

// distance counts the single-letter edits between two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
