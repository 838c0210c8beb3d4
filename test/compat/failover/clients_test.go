package failover

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// producer is a client that produces to a topic of its own.
type producer struct {
	name       string
	command    []string // BOOTSTRAP and TOPIC stand for themselves
	env        []string
	parse      func(line string) (word, value string)
	idempotent bool // each record once, and in order
	patient    bool // its defaults go on trying for longer than any fault lasts
	itself     bool // makes up its values, and ends by SIGTERM
	silent     bool // says nothing of single records; exit code 0: all were acknowledged
}

// consumer is a client that consumes what the producer of a name produces.
type consumer struct {
	name    string
	of      string
	command []string // BOOTSTRAP, TOPIC and GROUP stand for themselves
	env     []string
	parse   func(line string) (word, value string)
	itself  bool // ends by SIGTERM
}

// words reads the lines of the programs in clients/flow.
func words(line string) (word, value string) {
	word, value, _ = strings.Cut(line, " ")
	value, _, _ = strings.Cut(value, " ")
	return word, value
}

// plain reads the lines of programs that write values and nothing else.
func plain(line string) (word, value string) { return "got", line }

// verifiable reads what Kafka's verifiable producer and consumer write.
func verifiable(line string) (word, value string) {
	var event struct {
		Name  string `json:"name"`
		Value any    `json:"value"`
	}
	if json.Unmarshal([]byte(line), &event) != nil {
		return "", ""
	}
	switch event.Name {
	case "producer_send_success":
		return "ok", fmt.Sprint(event.Value)
	case "producer_send_error":
		return "failed", fmt.Sprint(event.Value)
	case "record_data":
		return "got", fmt.Sprint(event.Value)
	}
	return "", ""
}

// clients are those that this machine has.
func clients(t *testing.T) (producers []producer, consumers []consumer) {
	flow, err := filepath.Abs("../clients/flow")
	if err != nil {
		t.Fatal(err)
	}
	if bin := os.Getenv("FLOW_GO"); bin != "" {
		for _, lib := range []string{"franz", "sarama", "segmentio"} {
			producers = append(producers, producer{name: lib, command: []string{bin, lib, "produce", "BOOTSTRAP", "TOPIC"},
				parse: words, idempotent: lib == "franz", patient: lib == "franz"})
			consumers = append(consumers, consumer{name: lib, of: lib, command: []string{bin, lib, "consume", "BOOTSTRAP", "TOPIC", "GROUP"}, parse: words})
		}
	} else {
		t.Log("skip franz-go, sarama, segmentio")
	}
	producers = append(producers, producer{name: "kcat", command: []string{"kcat", "-P", "-b", "BOOTSTRAP", "-t", "TOPIC"}, parse: words, silent: true, patient: true})
	consumers = append(consumers, consumer{name: "kcat", of: "kcat", parse: plain,
		command: []string{"kcat", "-b", "BOOTSTRAP", "-q", "-u", "-X", "auto.offset.reset=earliest", "-G", "GROUP", "TOPIC"}, itself: true})
	if python := os.Getenv("FLOW_PYTHON"); python != "" {
		one, two := filepath.Join(flow, "confluent.py"), filepath.Join(flow, "kafka_python.py")
		producers = append(producers,
			producer{name: "confluent", command: []string{python, one, "produce", "BOOTSTRAP", "TOPIC"}, parse: words, patient: true},
			producer{name: "kafka-python", command: []string{python, two, "produce", "BOOTSTRAP", "TOPIC"}, parse: words, idempotent: true, patient: true})
		consumers = append(consumers,
			consumer{name: "confluent-classic", of: "confluent", command: []string{python, one, "consume", "BOOTSTRAP", "TOPIC", "GROUP"}, parse: words},
			consumer{name: "confluent-consumer", of: "confluent", command: []string{python, one, "consume", "BOOTSTRAP", "TOPIC", "GROUP", "consumer"}, parse: words},
			consumer{name: "kafka-python", of: "kafka-python", command: []string{python, two, "consume", "BOOTSTRAP", "TOPIC", "GROUP"}, parse: words})
	} else {
		t.Log("skip confluent-kafka, kafka-python")
	}
	if modules := os.Getenv("FLOW_NODE"); modules != "" {
		program, env := filepath.Join(flow, "kafkajs.js"), []string{"NODE_PATH=" + modules}
		producers = append(producers, producer{name: "kafkajs", command: []string{"node", program, "produce", "BOOTSTRAP", "TOPIC"}, env: env, parse: words})
		consumers = append(consumers, consumer{name: "kafkajs", of: "kafkajs", command: []string{"node", program, "consume", "BOOTSTRAP", "TOPIC", "GROUP"}, env: env, parse: words})
	} else {
		t.Log("skip kafkajs")
	}
	if kafka := os.Getenv("FLOW_KAFKA"); kafka != "" {
		// The tool turns retries off, which is not the producer's default.
		retries := filepath.Join(t.TempDir(), "retries.properties")
		if err := os.WriteFile(retries, []byte("retries=2147483647\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		producers = append(producers, producer{name: "java", parse: verifiable, idempotent: true, patient: true, itself: true,
			command: []string{kafka, "tool", "verifiable-producer", "--bootstrap-server", "BOOTSTRAP", "--topic", "TOPIC", "--throughput", fmt.Sprint(rate), "--command-config", retries}})
		for _, protocol := range []string{"classic", "consumer"} {
			consumers = append(consumers, consumer{name: "java-" + protocol, of: "java", parse: verifiable, itself: true,
				command: []string{kafka, "tool", "verifiable-consumer", "--bootstrap-server", "BOOTSTRAP", "--topic", "TOPIC", "--group-id", "GROUP",
					"--verbose", "--reset-policy", "earliest", "--group-protocol", protocol}})
		}
	} else {
		t.Log("skip Java")
	}
	return producers, consumers
}
