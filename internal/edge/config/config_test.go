package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	core "chronik/internal/core/config"
	"chronik/internal/core/metadata"
)

var update = flag.Bool("update", false, "rewrite docs/settings.md")

func TestDocumentIsFresh(t *testing.T) {
	const path = "../../../docs/settings.md"
	if *update {
		if err := os.WriteFile(path, []byte(Document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Document() {
		t.Fatalf("%s is stale: go test ./internal/edge/config -update", path)
	}
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "chronik.toml")
	if err := os.WriteFile(file, []byte("num.partitions = 2\nrack = \"file\"\n\"log.retention.bytes\" = 7\nmin.insync.replicas = \"2\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Sources{
		Flags:   map[string]string{"num-partitions": "4"},
		Environ: []string{"CHRONIK_NUM_PARTITIONS=3", "CHRONIK_RACK=env", "CHRONIK_CONFIG=" + file, "PATH=/bin"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		name, value string
		source      Source
	}{
		{"num.partitions", "4", FromFlag},
		{"rack", "env", FromEnvironment},
		{"log.retention.bytes", "7", FromFile},
		{"min.insync.replicas", "2", FromFile},
		{"fetch.max.bytes", "57671680", FromDefault},
	} {
		if c.Value(want.name) != want.value || c.Source(want.name) != want.source {
			t.Errorf("%s = %q from %s, want %q from %s", want.name, c.Value(want.name), c.Source(want.name), want.value, want.source)
		}
	}
	if c.PartitionsDefault != 4 || c.ConnectionsIdleMax != 10*time.Minute || c.OffsetsRetention != 7*24*time.Hour {
		t.Errorf("fields: %+v", c)
	}
}

func TestWrongSettingSaysWhatItGotAndWhatItTakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "chronik.toml")
	if err := os.WriteFile(file, []byte("num.partitions = \"many\"\nnum.partition = 3\nbroker.id = 4\n[kafka]\nx = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "broken.toml")
	if err := os.WriteFile(broken, []byte("rack = \"a\"\nlog-level = \n"), 0o644); err != nil {
		t.Fatal(err)
	}
	nested := filepath.Join(t.TempDir(), "nested.toml")
	if err := os.WriteFile(nested, []byte("max.connections = 5\nmax.connections.per.ip = 4\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		from Sources
		want []string
	}{
		"flag":         {Sources{Flags: map[string]string{"node-id": "-1"}}, []string{`setting node-id, flag --node-id: got "-1", takes a whole number from 0 to 2147483647`}},
		"unknown flag": {Sources{Flags: map[string]string{"node-idd": "1"}}, []string{"flag --node-idd is not a setting; did you mean node-id?"}},
		"environment":  {Sources{Environ: []string{"CHRONIK_LOG_LEVEL=loud"}}, []string{`setting log-level, environment variable CHRONIK_LOG_LEVEL: got "loud", takes one of debug, info, warn, error`}},
		"unknown environment": {Sources{Environ: []string{"CHRONIK_DATADIR=/x"}},
			[]string{"environment variable CHRONIK_DATADIR is not a setting; did you mean CHRONIK_DATA_DIR?"}},
		"file": {Sources{File: file}, []string{
			`setting num.partitions, file ` + file + `: got "many", takes a whole number from 1 to 100000`,
			"broker.id is not a setting; did you mean node-id?",
			"kafka.x is not a setting",
			"num.partition is not a setting; did you mean num.partitions?"}},
		"no file":     {Sources{File: file + ".no"}, []string{"no such file"}},
		"broken file": {Sources{File: broken}, []string{"line 2"}},
		"nested":      {Sources{File: nested}, []string{`put both in quotes: "max.connections" = 1000`}},
		"address":     {Sources{Flags: map[string]string{"kafka": "9092"}}, []string{`got "9092", takes HOST:PORT`}},
		"advertised":  {Sources{Flags: map[string]string{"advertise-kafka": ":9092"}}, []string{`got ":9092", takes HOST:PORT`}},
		"peers":       {Sources{Flags: map[string]string{"peers": "1@a:1,1@b:1"}}, []string{`got "1@a:1,1@b:1", takes ID@HOST:PORT`}},
		"not a peer":  {Sources{Flags: map[string]string{"peers": "2@a:1"}}, []string{"no entry for this node"}},
		"every peer":  {Sources{Flags: map[string]string{"peers": "1@0.0.0.0:1"}}, []string{"takes an address at which the other nodes reach node 1"}},
		"both":        {Sources{Flags: map[string]string{"peers": "1@a:1", "join": "b:1"}}, []string{"settings join and peers"}},
		"order": {Sources{Flags: map[string]string{"group-min-session-timeout-ms": "2000000"}},
			[]string{`setting group.min.session.timeout.ms: got "2000000", takes at most the value of group.max.session.timeout.ms, which is 1800000`}},
		"heartbeat": {Sources{Flags: map[string]string{"broker-heartbeat-interval-ms": "600"}}, []string{"at most half of broker.session.timeout.ms, which is 1000"}},
		"two":       {Sources{Flags: map[string]string{"node-id": "x", "rack": "a\nb"}}, []string{"setting node-id", "setting rack"}},
	} {
		_, err := Load(test.from)
		var wrong *Error
		if !errors.As(err, &wrong) || len(wrong.Problems) != len(test.want) {
			t.Errorf("%s: %d problems wanted, got %v", name, len(test.want), err)
			continue
		}
		for i, want := range test.want {
			if !strings.Contains(wrong.Problems[i], want) {
				t.Errorf("%s: got\n%s\nwant\n%s", name, wrong.Problems[i], want)
			}
		}
	}
}

func TestKubernetesServiceVariablesAreNoSettings(t *testing.T) {
	_, err := Load(Sources{Environ: []string{
		"CHRONIK_SERVICE_HOST=10.0.0.1", "CHRONIK_SERVICE_PORT=9092", "CHRONIK_SERVICE_PORT_KAFKA=9092", "CHRONIK_PORT=tcp://10.0.0.1:9092",
		"CHRONIK_PORT_9092_TCP=tcp://10.0.0.1:9092", "CHRONIK_PORT_9092_TCP_ADDR=10.0.0.1", "CHRONIK_HEADLESS_SERVICE_HOST=10.0.0.2",
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryRowHasItsOwnFieldAndSpelling(t *testing.T) {
	c := Default()
	seen := map[string]string{}
	claim := func(what, name string) {
		if other, taken := seen[what]; taken {
			t.Errorf("%s and %s share %s", name, other, what)
		}
		seen[what] = name
	}
	fields := map[any]bool{}
	for _, s := range Settings() {
		claim("flag "+s.Flag(), s.Name)
		claim("env "+s.Env(), s.Name)
		field := s.field(&c)
		if u, ok := field.(*unitDuration); ok {
			field = u.at
		}
		if fields[field] {
			t.Errorf("%s shares its field", s.Name)
		}
		fields[field] = true
		if s.Help == "" || s.Section == "" || !strings.HasSuffix(s.Help, ".") {
			t.Errorf("%s has no help", s.Name)
		}
		if kubernetesService.MatchString(s.Env()) {
			t.Errorf("%s looks like a variable of Kubernetes", s.Env())
		}
		if again := format(s.field(&c)); s.Default != again && s.Name != "advertise-kafka" {
			t.Errorf("%s: default %q reads back as %q", s.Name, s.Default, again)
		}
	}
	exported := 0
	for f := range reflect.TypeFor[Config]().Fields() {
		if f.IsExported() {
			exported++
		}
	}
	if exported != len(fields) {
		t.Errorf("%d fields, %d rows: a field without a row cannot be set", exported, len(fields))
	}
}

func TestStaticHasKafkasNames(t *testing.T) {
	c, err := Load(Sources{Flags: map[string]string{"num-partitions": "7", "kafka": "0.0.0.0:9095", "advertise-kafka": "a.example:9095"}})
	if err != nil {
		t.Fatal(err)
	}
	got := c.Static()
	for name, want := range map[string]string{
		"num.partitions": "7", "listeners": "PLAINTEXT://0.0.0.0:9095", "advertised.listeners": "PLAINTEXT://a.example:9095",
		"node.id": "1", "max.connections": "16384", "message.max.bytes": "", "log.cleaner.min.cleanable.ratio": "",
	} {
		if got[name] != want {
			t.Errorf("%s = %q, want %q", name, got[name], want)
		}
	}
	if _, leaked := got["data-dir"]; leaked {
		t.Error("a name that Kafka does not have")
	}
}

func TestAdvertisedAddressIsNeverEveryInterface(t *testing.T) {
	for kafka, want := range map[string]string{"127.0.0.1:9092": "127.0.0.1:9092", "broker-1:9000": "broker-1:9000", "[::1]:1": "[::1]:1"} {
		c, err := Load(Sources{Flags: map[string]string{"kafka": kafka}})
		if err != nil || c.AdvertiseKafka != want {
			t.Errorf("%s: advertises %q (%v), want %q", kafka, c.AdvertiseKafka, err, want)
		}
	}
	for _, kafka := range []string{":9092", "0.0.0.0:9092", "[::]:9092"} {
		c, err := Load(Sources{Flags: map[string]string{"kafka": kafka}})
		if err != nil || strings.HasPrefix(c.AdvertiseKafka, ":") || strings.Contains(c.AdvertiseKafka, "0.0.0.0") || strings.Contains(c.AdvertiseKafka, "[::]") {
			t.Errorf("%s: advertises %q (%v)", kafka, c.AdvertiseKafka, err)
		}
	}
	for _, peer := range []string{":9192", "0.0.0.0:9192", "[::]:9192"} {
		c, err := Load(Sources{Flags: map[string]string{"peer": peer}})
		if err != nil || c.Peer != peer || everyInterface(strings.TrimSuffix(c.AdvertisePeer(), ":9192")) {
			t.Errorf("%s: listens on %q, tells nodes %q (%v)", peer, c.Peer, c.AdvertisePeer(), err)
		}
	}
}

// What a node was not told has its default from core/config: the two tables
// must not differ unless Static says so.
func TestDefaultsAreThoseOfTheBroker(t *testing.T) {
	c := Default()
	r, err := core.NewResolver(c.NodeID, c.Static())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range Settings() {
		if k, known := core.Lookup(metadata.ResourceBroker, s.Name); !known || k.NoDefault {
			continue
		}
		if got, _ := r.Broker(metadata.Empty(), s.Name); got != s.Default {
			t.Errorf("%s is %q to the broker, the default of the setting is %q", s.Name, got, s.Default)
		}
	}
	topic := r.Topic(metadata.Empty(), "t")
	if topic.RetentionTime.Milliseconds() != c.LogRetentionMs || topic.SegmentTime.Milliseconds() != c.LogRollMs {
		t.Errorf("retention %v, roll %v", topic.RetentionTime, topic.SegmentTime)
	}
}
