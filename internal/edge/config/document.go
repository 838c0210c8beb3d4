package config

import (
	"fmt"
	"strings"
)

// Document is the text of docs/settings.md.
func Document() string {
	var b strings.Builder
	b.WriteString(`# Settings

<!-- Generated from internal/edge/config/table.go: go test ./internal/edge/config -update -->

Each setting can be a flag of ` + "`chronik start`" + ` (the name with dashes for dots: ` + "`--num-partitions 3`" + `), an
environment variable (` + "`CHRONIK_NUM_PARTITIONS=3`" + `) or a line of the TOML file named by ` + "`--config`" + ` or
` + "`CHRONIK_CONFIG`" + ` (` + "`num.partitions = 3`" + `). A flag is stronger than the environment, the environment
stronger than the file, the file stronger than the default. A name that is not in this table is an error, and so is a
value that the setting does not take. ` + "`chronik config`" + ` prints what is in effect and where it came from.

Names with dots are Kafka's and mean what they mean there. Where one name continues another (` + "`max.connections`" + ` and
` + "`max.connections.per.ip`" + `), TOML wants them in quotes: ` + "`\"max.connections\" = 1000`" + `.
`)
	heading := ""
	for i := range table {
		s := &table[i]
		if s.Section != heading {
			heading = s.Section
			fmt.Fprintf(&b, "\n## %s\n\n| setting | type | default | meaning |\n|---|---|---|---|\n", heading)
		}
		shown := "nothing"
		if s.Default != "" {
			shown = "`" + s.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s Takes %s. |\n", s.Name, s.Type(), shown, s.Help, s.Takes())
	}
	return b.String()
}
