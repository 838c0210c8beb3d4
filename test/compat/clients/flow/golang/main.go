// Golang follows a cluster through its faults with one of Go's client
// libraries; see ../README.md.
//
//	golang LIBRARY produce BOOTSTRAP TOPIC
//	golang LIBRARY consume BOOTSTRAP TOPIC GROUP
//
// sarama asks for acknowledgements by all, as does segmentio; franz-go's are
// its defaults.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// library is one client library.
type library struct {
	// produce sends every value, and ends when each was told.
	produce func(addrs []string, topic string, values <-chan string) error
	// consume reads until stop is closed.
	consume func(addrs []string, topic, group string, stop <-chan struct{}) error
}

var libraries = map[string]library{
	"franz":     {franzProduce, franzConsume},
	"sarama":    {saramaProduce, saramaConsume},
	"segmentio": {segmentioProduce, segmentioConsume},
}

var out sync.Mutex

func say(words ...string) {
	out.Lock()
	defer out.Unlock()
	fmt.Println(strings.Join(words, " "))
}

// told says what became of a value.
func told(value string, err error) {
	if err != nil {
		say("failed", value, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	say("ok", value)
}

func main() {
	if len(os.Args) < 5 || libraries[os.Args[1]].produce == nil {
		fmt.Fprintln(os.Stderr, "usage: golang franz|sarama|segmentio produce|consume BOOTSTRAP TOPIC [GROUP]")
		os.Exit(2)
	}
	lib, addrs, topic := libraries[os.Args[1]], strings.Split(os.Args[3], ","), os.Args[4]
	var err error
	if os.Args[2] == "produce" {
		err = lib.produce(addrs, topic, lines())
	} else {
		stop := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(stop) }()
		err = lib.consume(addrs, topic, os.Args[5], stop)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func lines() <-chan string {
	values := make(chan string)
	go func() {
		defer close(values)
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			values <- in.Text()
		}
	}()
	return values
}
