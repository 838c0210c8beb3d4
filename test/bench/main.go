// Command bench compares a chronik node with Apache Kafka on one machine, side
// by side in one run.
//
//	go run ./test/bench compare            both, in turns; a table and JSON lines
//	go run ./test/bench report FILE...     the table of earlier runs
//
// README.md says what is measured and how to read it.
package main

import (
	"fmt"
	"os"
)

func main() {
	var err error
	switch command := append(os.Args, "", "")[1]; command {
	case "compare":
		err = compare(os.Args[2:])
	case "report":
		err = reportFiles(os.Args[2:])
	case "client": // what compare runs for each sample
		err = client(os.Args[2:])
	default:
		err = fmt.Errorf("unknown command %q: compare or report", command)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
