package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// arm is one of the brokers that are compared.
type arm struct {
	name    string
	address string
	pid     int
	stop    func()
	admin   *kadm.Client
}

// pinned puts a command on one processor, or leaves it as it is.
func pinned(cpu string, argv ...string) []string {
	if cpu == "" {
		return argv
	}
	return append([]string{"taskset", "-c", cpu}, argv...)
}

// environ leaves out what chronik would take for its settings.
func environ(more ...string) []string {
	own := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CHRONIK_") })
	return append(own, more...)
}

func startChronik(dir, binary, cpu string) (*arm, error) {
	data, err := os.MkdirTemp(dir, "chronik-")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	argv := pinned(cpu, binary, "start", "--data-dir", data, "--kafka", address, "--http", "", "--log-level", "warn")
	return startArm("chronik", address, data, argv)
}

// javaOptions are those of Kafka's own start script (kafka-run-class.sh). The
// compatibility tests start Kafka with a compiler that starts fast and runs
// slowly, which would not do here.
var javaOptions = strings.Fields("-Xms1G -Xmx1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 " +
	"-XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true")

// startKafka starts Apache Kafka with its own defaults and data beside
// chronik's. script says where the jars are.
func startKafka(dir, script, cpu string) (*arm, error) {
	jars, err := exec.Command("bash", script, "jars").Output()
	if err != nil {
		return nil, fmt.Errorf("fetch Kafka: %w", err)
	}
	path := strings.TrimSpace(string(jars))
	home, err := os.MkdirTemp(dir, "kafka-")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	controller, err := freeAddress()
	if err != nil {
		return nil, err
	}
	properties := filepath.Join(home, "server.properties")
	if err := os.WriteFile(properties, []byte(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@`+controller+`
listeners=PLAINTEXT://`+address+`,CONTROLLER://`+controller+`
advertised.listeners=PLAINTEXT://`+address+`
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=`+filepath.Join(home, "data")+`
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
`), 0o600); err != nil {
		return nil, err
	}
	format := exec.Command("java", "-cp", path, "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", properties)
	if out, err := format.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format Kafka's storage: %w: %s", err, out)
	}
	argv := append(append([]string{"java"}, javaOptions...), "-cp", path, "kafka.Kafka", properties)
	return startArm("kafka", address, home, pinned(cpu, argv...))
}

// startArm starts a broker's process and waits until it answers.
func startArm(name, address, data string, argv []string) (*arm, error) {
	log, err := os.Create(data + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr, cmd.Stdout, cmd.Env = log, log, environ()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	a := &arm{name: name, address: address, pid: cmd.Process.Pid}
	a.stop = func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		os.RemoveAll(data)
	}
	return a, a.connect(data + ".log")
}

func (a *arm) connect(log string) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(a.address), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
	if err != nil {
		return err
	}
	a.admin = kadm.NewClient(c)
	kill := a.stop
	a.stop = func() { a.admin.Close(); kill() }
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		if _, err = a.admin.ListBrokers(ctx); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			a.stop()
			return fmt.Errorf("%s does not answer, see %s: %w", a.name, log, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// version is what the broker says of itself, for the record.
func (a *arm) version() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	v, err := a.admin.ApiVersions(ctx)
	if err != nil {
		return err.Error()
	}
	guess := "unknown"
	v.Each(func(b kadm.BrokerApiVersions) { guess = b.VersionGuess() })
	return guess
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
