package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/edge/config"
)

// cli runs the command line.
func cli(environ []string, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	code = run(ctx, args, environ, strings.NewReader(""), &out, &err)
	return code, out.String(), err.String()
}

func TestWrongUseExitsWithTwoAndSaysWhatIsRight(t *testing.T) {
	file := filepath.Join(t.TempDir(), "chronik.toml")
	if err := os.WriteFile(file, []byte("num.partition = 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"nonsense":                                        `chronik has no command "nonsense"; it has bench, `,
		"start now":                                       "chronik start --help",
		"start --num-partitions many":                     `setting num.partitions, flag --num-partitions: got "many", takes a whole number from 1 to 100000`,
		"topc list":                                       `chronik has no command "topc"; did you mean topic?`,
		"topic crate x":                                   `chronik topic has no command "crate"; did you mean create?`,
		"topic x":                                         `chronik topic has no command "x"; it has alter, create, delete, describe, list`,
		"topic list x":                                    "got \"x\", takes nothing but flags\nTry `chronik topic list --help`",
		"help nonsense":                                   `chronik has no command "nonsense"`,
		"help topic crate":                                "did you mean create?",
		"help version x":                                  `chronik version has no command "x"`,
		"start --num-partition 3":                         "there is no flag --num-partition; did you mean --num-partitions?",
		"topic list --otput json":                         "there is no flag --otput; did you mean --output?",
		"topic create t --replication-factor 3":           "there is no flag --replication-factor; did you mean --replicas?",
		"topic list --bootstrap-server h:1":               "there is no flag --bootstrap-server; did you mean --bootstrap?",
		"group list --replication-factor 3":               "there is no flag --replication-factor",
		"cluster remove-node -3":                          "there is no flag -3",
		"consume -t x -ez":                                "there is no flag -z",
		"topic list --timeout":                            "flag --timeout: its value is missing, takes a time with its unit, such as 500ms",
		"topic list --timeout 5":                          `flag --timeout: got "5", takes a time with its unit, such as 500ms, 30s or 5m`,
		"topic list --timeout 1ms":                        "flag --timeout: got 1ms, takes 1s to 24h",
		"topic list --timeout 0s":                         "flag --timeout: got 0s, takes 1s to 24h",
		"topic list --timeout 1000h":                      "takes 1s to 24h",
		"bench produce -d 5":                              `flag --duration: got "5", takes a time with its unit`,
		"topic create x -r 70000":                         `flag --replicas: got "70000", takes a whole number from -32768 to 32767`,
		"topic create x -p many":                          `flag --partitions: got "many", takes a whole number`,
		"simulate --seed -1":                              `flag --seed: got "-1", takes a whole number from 0 on`,
		"simulate --minutes abc":                          `flag --minutes: got "abc", takes a number`,
		"simulate --minutes 0.01 --events -3":             "flag --events: got -3",
		"simulate --minutes 0.01 --workers -3":            "flag --workers: got -3",
		"consume -t x -p 1,b":                             `flag --partition: got "1,b", takes whole numbers with commas`,
		"consume -t x -p -1":                              "flag --partition: got -1, takes numbers from 0 on",
		"produce -t x -p -7":                              "flag --partition: got -7, takes a number from 0 on, or -1",
		"topic list -b localhost:99999":                   `flag --bootstrap: got "localhost:99999", takes HOST:PORT`,
		"topic list -b localhost:http":                    `flag --bootstrap: got "localhost:http", takes HOST:PORT`,
		"cluster events --http nonsense":                  `flag --http: got "nonsense", takes HOST:PORT`,
		"cluster scrub --http nonsense":                   `flag --http: got "nonsense", takes HOST:PORT`,
		"cluster status --http nonsense":                  `flag --http: got "nonsense", takes HOST:PORT`,
		"cluster add-node --wait -5":                      "flag --wait: got -5, takes the id of a node",
		"cluster remove-node":                             "which node is missing; `chronik cluster status`",
		"cluster remove-node 1 2":                         "got 2 arguments, takes one node",
		"topic describe":                                  "which topic is missing; `chronik topic list`",
		"topic delete":                                    "which topic is missing; `chronik topic list`",
		"bench failover --setting nope=3":                 "flag --nope is not a setting",
		"bench failover --setting num.partition=3":        "did you mean num-partitions?",
		"wal dump -n -4 .":                                "flag --max: got -4",
		"wal dump --from -7 .":                            "flag --from: got -7",
		"start --config " + file:                          "did you mean num.partitions?",
		"start --config /nowhere/chronik.toml":            "/nowhere/chronik.toml",
		"dev --kafka 9092":                                `got "9092", takes HOST:PORT`,
		"config -o yaml":                                  `flag --output: got "yaml", takes one of text, json`,
		"produce":                                         "flag --topic is missing",
		"produce -t x --acks 2":                           `flag --acks: got "2", takes one of all, 1, 0`,
		"produce -t x -z rar":                             `flag --compression: got "rar"`,
		"produce -t x -H novalue":                         `flag --header: got "novalue", takes NAME=VALUE`,
		"produce -t x -b localhost":                       `flag --bootstrap: got "localhost", takes HOST:PORT`,
		"consume":                                         "flag --topic is missing",
		"consume -t x --from yesterday":                   `flag --from: got "yesterday", takes beginning, end`,
		"consume -t x -f %q":                              `flag --format: got "%q", takes`,
		"consume -t x -g g -p 1":                          "a group shares out the partitions itself",
		"consume -t x -n many":                            `flag --count: got "many", takes a whole number`,
		"topic create":                                    "which topic is missing; takes the names",
		"topic list -o xml":                               `flag --output: got "xml"`,
		"group list --state Stabel":                       `flag --state: got "Stabel", takes Empty, Stable`,
		"group describe":                                  "which group is missing",
		"group delete":                                    "which group is missing",
		"group reset-offsets --to-latest":                 "which group is missing; `chronik group list`",
		"group reset-offsets g":                           "where to is missing: takes one of --to-earliest",
		"group reset-offsets g --to-offset 1 --to-latest": "got --to-latest and --to-offset, takes one of them",
		"bench produce --duration 0":                      "takes more than 0 for one",
		"bench produce --producers 0":                     "flag --producers: got 0",
		"bench produce --size -1":                         "flag --size: got -1",
		"bench consume --consumers 0":                     "flag --consumers: got 0",
		"wal dump":                                        "which directory is missing; give that of a log",
		"start --broker-heartbeat-interval-ms=900":        "at most half of broker.session.timeout.ms",
	} {
		code, stdout, stderr := cli(nil, strings.Fields(line)...)
		if code != exitUsage || !strings.Contains(stderr, want) || stdout != "" {
			t.Errorf("chronik %s: exit %d, stdout %q, stderr\n%s\nwant exit 2 and %q", line, code, stdout, stderr, want)
		}
	}
	code, _, stderr := cli([]string{"CHRONIK_NODE_ID=x", "CHRONIK_NODEID=1"}, "start")
	if code != exitUsage || !strings.Contains(stderr, "environment variable CHRONIK_NODE_ID: got \"x\"") || !strings.Contains(stderr, "did you mean CHRONIK_NODE_ID?") {
		t.Errorf("environment: exit %d, %s", code, stderr)
	}
}

func TestWhatCannotBeDoneExitsWithOneAndSaysWhatToDo(t *testing.T) {
	for _, line := range []string{
		"topic list -b 127.0.0.1:1",
		"produce -t x -b 127.0.0.1:1",
		"consume -t x -b 127.0.0.1:1",
		"bench produce -b 127.0.0.1:1",
		"bench consume -b 127.0.0.1:1,127.0.0.1:2",
	} {
		code, stdout, stderr := cli(nil, strings.Fields(line)...)
		if code != exitFailed || !strings.Contains(stderr, "connection refused") || !strings.Contains(stderr, "chronik dev") || stdout != "" {
			t.Errorf("chronik %s: exit %d, stdout %q, stderr %q", line, code, stdout, stderr)
		}
	}
	if code, _, stderr := cli(nil, "wal", "dump", "/nowhere/at/all"); code != exitFailed || !strings.Contains(stderr, "/nowhere/at/all") {
		t.Errorf("wal dump: exit %d, stderr %q", code, stderr)
	}
}

func TestClientsAreGivenTheBrokersThatTakeConnections(t *testing.T) {
	live, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	c := &cluster{bootstrap: "127.0.0.1:1," + live.Addr().String() + ",127.0.0.1:2", timeout: time.Second}
	client, err := c.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if got := client.OptValue(kgo.SeedBrokers); !reflect.DeepEqual(got, []string{live.Addr().String()}) {
		t.Errorf("the client asks %v, and %s is the one that takes connections", got, live.Addr())
	}
}

func TestHelpAndVersionExitWithZero(t *testing.T) {
	for _, line := range []string{"", "--help", "help start", "start --help", "dev --help", "topic", "topic create --help", "bench", "wal", "version", "consume -h"} {
		code, stdout, stderr := cli(nil, strings.Fields(line)...)
		if code != 0 || stdout == "" || stderr != "" {
			t.Errorf("chronik %s: exit %d, stdout %q, stderr %q", line, code, stdout, stderr)
		}
	}
	_, help, _ := cli(nil, "start", "--help")
	for _, s := range config.Settings() {
		if !strings.Contains(help, "--"+s.Flag()+" ") {
			t.Errorf("start has no flag --%s", s.Flag())
		}
	}
}

func TestConfigPrintsValuesAndSources(t *testing.T) {
	code, stdout, stderr := cli([]string{"CHRONIK_RACK=r1"}, "config", "-o", "json", "--num-partitions=3", "--auto-create-topics-enable=false",
		"--peers", "1@a:1", "--peers", "2@b:2")
	if code != 0 {
		t.Fatal(stderr)
	}
	var got map[string]struct{ Value, Source string }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct{ Value, Source string }{
		"num.partitions": {"3", "flag"}, "rack": {"r1", "environment"}, "auto.create.topics.enable": {"false", "flag"},
		"peers": {"1@a:1,2@b:2", "flag"}, "data-dir": {"./chronik-data", "default"},
	} {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
	}
	if code, stdout, _ := cli(nil, "config"); code != 0 || !strings.Contains(stdout, "node-id") {
		t.Errorf("exit %d, %s", code, stdout)
	}
}

func TestFormatPrintsRecords(t *testing.T) {
	r := &kgo.Record{Topic: "t", Partition: 2, Offset: 7, Key: []byte("k"), Timestamp: time.UnixMilli(5),
		Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "b"}}}
	for format, want := range map[string]string{
		`%s\n`: "\n", `%t/%p@%o %k(%K)=%s(%S) %h %T%%`: "t/2@7 k(1)=(-1) a=1,b= 5%", `\t\\`: "\t\\", "plain": "plain",
	} {
		write, err := parseFormat(format)
		if err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		var b bytes.Buffer
		if write(&b, r); b.String() != want {
			t.Errorf("%s: %q, want %q", format, b.String(), want)
		}
	}
	for _, format := range []string{"%", `\`, "%x", `\x`} {
		if _, err := parseFormat(format); err == nil {
			t.Errorf("%s was taken", format)
		}
	}
}

func TestJSONKeepsBytesThatAreNoText(t *testing.T) {
	var b bytes.Buffer
	if err := writeRecordJSON(&b, &kgo.Record{Topic: "t", Key: []byte("k"), Value: []byte{0xff}, Timestamp: time.UnixMilli(0)}); err != nil {
		t.Fatal(err)
	}
	want := `{"topic":"t","partition":0,"offset":0,"timestamp":"1970-01-01T00:00:00Z","key":"k","value":null,"value_base64":"/w=="}` + "\n"
	if b.String() != want {
		t.Errorf("got %s want %s", b.String(), want)
	}
}

func TestPercentilesAreExactToAThirtySecond(t *testing.T) {
	var l latencies
	for i := 1; i <= 100000; i++ {
		l.add(time.Duration(i) * time.Microsecond)
	}
	for p, want := range map[float64]time.Duration{50: 50 * time.Millisecond, 99: 99 * time.Millisecond, 99.9: 99900 * time.Microsecond, 100: 100 * time.Millisecond} {
		if got := l.percentile(p); got < want || got > want+want/32 {
			t.Errorf("p%v: %v, want %v", p, got, want)
		}
	}
	if l.longest() != 100*time.Millisecond {
		t.Errorf("max %v", l.longest())
	}
	for _, n := range []uint64{0, 1, 31, 32, 63, 64, 65, 1000, 1 << 40, 1<<63 - 1} {
		b := latencyBucket(n)
		if end := bucketEnd(b); end < n || end > n+n/32 {
			t.Errorf("%d is in bucket %d that ends at %d", n, b, end)
		}
		if b > 0 && bucketEnd(b-1) >= n {
			t.Errorf("%d is in bucket %d, but bucket %d ends at %d", n, b, b-1, bucketEnd(b-1))
		}
	}
	var empty latencies
	if empty.percentile(99) != 0 {
		t.Error("percentile of nothing")
	}
}

func TestFirstOffsetOfARangeOfOffsets(t *testing.T) {
	for from, want := range map[string]int64{"beginning": 10, "end": 20, "5": 10, "15": 15, "-3": 17, "-300": 10} {
		c := consumeCommand{from: from}
		if _, err := startAt(from); err != nil {
			t.Error(err)
		}
		if got := c.first(10, 20); got != want {
			t.Errorf("%s: %d, want %d", from, got, want)
		}
	}
}
