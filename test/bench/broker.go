package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// arm is one of the brokers that are compared, or a cluster of them.
type arm struct {
	name    string
	address string // of each node, with commas between them
	pids    []int
	stop    func()
	admin   *kadm.Client
}

func (a *arm) nodes() int { return len(a.pids) }

func (a *arm) pidList() string {
	var text []string
	for _, pid := range a.pids {
		text = append(text, strconv.Itoa(pid))
	}
	return strings.Join(text, ",")
}

// peakRSS is of all nodes, in MiB.
func (a *arm) peakRSS() (sum float64) {
	for _, pid := range a.pids {
		sum += peakRSS(pid)
	}
	return sum
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

func startChronik(dir, binary, cpu string, nodes int) (*arm, error) {
	data, err := os.MkdirTemp(dir, "chronik-")
	if err != nil {
		return nil, err
	}
	kafka, err := freeAddresses(nodes)
	if err != nil {
		return nil, err
	}
	peers, err := freeAddresses(nodes)
	if err != nil {
		return nil, err
	}
	var argvs [][]string
	for i := range nodes {
		argv := []string{binary, "start", "--data-dir", filepath.Join(data, strconv.Itoa(i+1)), "--kafka", kafka[i], "--peer", peers[i], "--http", "", "--log-level", "warn"}
		if nodes > 1 {
			argv = append(argv, "--node-id", strconv.Itoa(i+1), "--peers", voters(peers))
		}
		argvs = append(argvs, pinned(cpu, argv...))
	}
	return startArm("chronik", kafka, data, argvs)
}

// voters writes addresses as 1@HOST:PORT,2@….
func voters(addresses []string) string {
	list := make([]string, 0, len(addresses))
	for i, a := range addresses {
		list = append(list, fmt.Sprintf("%d@%s", i+1, a))
	}
	return strings.Join(list, ",")
}

// javaOptions are those of Kafka's own start script (kafka-run-class.sh). The
// compatibility tests start Kafka with a compiler that starts fast and runs
// slowly, which would not do here.
var javaOptions = strings.Fields("-Xms1G -Xmx1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 " +
	"-XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true")

// startKafka starts Apache Kafka with its own defaults and data beside
// chronik's. script says where the jars are.
func startKafka(dir, script, cpu string, nodes int) (*arm, error) {
	jars, err := exec.Command("bash", script, "jars").Output()
	if err != nil {
		return nil, fmt.Errorf("fetch Kafka: %w", err)
	}
	path := strings.TrimSpace(string(jars))
	home, err := os.MkdirTemp(dir, "kafka-")
	if err != nil {
		return nil, err
	}
	kafka, err := freeAddresses(nodes)
	if err != nil {
		return nil, err
	}
	controllers, err := freeAddresses(nodes)
	if err != nil {
		return nil, err
	}
	var argvs [][]string
	for i := range nodes {
		id := strconv.Itoa(i + 1)
		properties := filepath.Join(home, "server"+id+".properties")
		if err := os.WriteFile(properties, []byte(`process.roles=broker,controller
node.id=`+id+`
controller.quorum.voters=`+voters(controllers)+`
listeners=PLAINTEXT://`+kafka[i]+`,CONTROLLER://`+controllers[i]+`
advertised.listeners=PLAINTEXT://`+kafka[i]+`
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=`+filepath.Join(home, "data"+id)+`
offsets.topic.replication.factor=`+strconv.Itoa(nodes)+`
transaction.state.log.replication.factor=`+strconv.Itoa(nodes)+`
transaction.state.log.min.isr=1
`), 0o600); err != nil {
			return nil, err
		}
		format := exec.Command("java", "-cp", path, "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", properties)
		if out, err := format.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("format Kafka's storage: %w: %s", err, out)
		}
		argv := append(append([]string{"java"}, javaOptions...), "-cp", path, "kafka.Kafka", properties)
		argvs = append(argvs, pinned(cpu, argv...))
	}
	return startArm("kafka", kafka, home, argvs)
}

// startArm starts the brokers' processes and waits until they answer.
func startArm(name string, addresses []string, data string, argvs [][]string) (*arm, error) {
	log, err := os.Create(data + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	a := &arm{name: name, address: strings.Join(addresses, ",")}
	var running []*exec.Cmd
	a.stop = func() {
		for _, cmd := range running {
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()
		}
		os.RemoveAll(data)
	}
	for _, argv := range argvs {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stderr, cmd.Stdout, cmd.Env = log, log, environ()
		if err := cmd.Start(); err != nil {
			a.stop()
			return nil, err
		}
		running = append(running, cmd)
		a.pids = append(a.pids, cmd.Process.Pid)
	}
	return a, a.connect(data + ".log")
}

func (a *arm) connect(log string) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(a.address, ",")...), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
	if err != nil {
		return err
	}
	a.admin = kadm.NewClient(c)
	kill := a.stop
	a.stop = func() { a.admin.Close(); kill() }
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for {
		brokers, err := a.admin.ListBrokers(ctx)
		if err == nil && len(brokers) == a.nodes() {
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

// freeAddresses lists so many addresses that nobody listens on.
func freeAddresses(n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}
