package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are the same for both servers.
var settings = []string{
	"group.initial.rebalance.delay.ms=0",
	"offsets.topic.num.partitions=4",
}

// kafkaSettings are those that Chronik does not have; they make Kafka smaller,
// and have it notice sooner that a node is gone.
var kafkaSettings = []string{
	"transaction.state.log.num.partitions=4",
	"share.coordinator.state.topic.num.partitions=2",
	"broker.session.timeout.ms=3000",
	"broker.heartbeat.interval.ms=500",
}

// freePort finds a port that is free, as is the next and, for several nodes,
// those a hundred further on: node i has two from port+100*i on. They are below
// those that the kernel gives to outgoing connections, so that they stay free.
func freePort(nodes int) (int, error) {
	for range 50 {
		port := 20000 + rand.IntN(12000-100*nodes)
		var held []net.Listener
		for i := range nodes {
			for _, at := range []int{port + 100*i, port + 100*i + 1} {
				if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", at)); err == nil {
					held = append(held, l)
				}
			}
		}
		for _, l := range held {
			_ = l.Close()
		}
		if len(held) == 2*nodes {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free ports for %d nodes", nodes)
}

// address is a node's, for clients; that for its peers is the next port.
func address(port int, node int32) string {
	return fmt.Sprintf("127.0.0.1:%d", port+100*int(node-1))
}

// startKafka runs Apache Kafka by the script of this module.
func startKafka(module, dir string, nodes int) (*side, error) {
	port, err := freePort(nodes)
	if err != nil {
		return nil, err
	}
	script := func(args ...string) ([]byte, error) {
		cmd := exec.Command(filepath.Join(module, "kafka"), args...)
		cmd.Env = append(os.Environ(), "KAFKA_DATA="+dir, "KAFKA_PORT="+strconv.Itoa(port))
		cmd.Stderr = os.Stderr
		return cmd.Output()
	}
	args := append(append([]string{"start", strconv.Itoa(nodes)}, kafkaSettings...), settings...)
	out, err := script(args...)
	if err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	s := &side{name: "kafka", nodes: map[int32]string{}, stop: func() { _, _ = script("stop") }}
	for i, addr := range strings.Split(string(bytes.TrimSpace(out)), ",") {
		s.nodes[int32(i+1)] = addr
	}
	s.addr = s.nodes[1]
	s.kill = func(node int32) error { _, err := script("kill", fmt.Sprint(node)); return err }
	return s, nil
}

// process is one chronik.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	log   *os.File
}

func (p *process) stop(grace time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(grace):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	_ = p.log.Close()
}

// startChronik runs this repository's broker, which it builds unless there is a
// binary.
func startChronik(module, binary, dir string, nodes int) (*side, error) {
	if binary == "" {
		binary = filepath.Join(dir, "chronik")
		build := exec.Command("go", "build", "-o", binary, "./cmd/chronik")
		build.Dir = filepath.Join(module, "..", "..")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return nil, fmt.Errorf("build chronik: %w", err)
		}
	}
	port, err := freePort(nodes)
	if err != nil {
		return nil, err
	}
	s := &side{name: "chronik", nodes: map[int32]string{}}
	var peers []string
	for id := int32(1); int(id) <= nodes; id++ {
		s.nodes[id] = address(port, id)
		peers = append(peers, fmt.Sprintf("%d@%s", id, address(port+1, id)))
	}
	s.addr = s.nodes[1]
	running := map[int32]*process{}
	s.stop = func() {
		for _, p := range running {
			p.stop(5 * time.Second)
		}
	}
	s.kill = func(node int32) error {
		err := running[node].cmd.Process.Kill()
		<-running[node].ended
		return err
	}
	for id := int32(1); int(id) <= nodes; id++ {
		args := []string{"--peer", address(port+1, id)}
		if nodes > 1 {
			args = append(args, "--node-id", fmt.Sprint(id), "--peers", strings.Join(peers, ","))
		}
		if running[id], err = runChronik(binary, filepath.Join(dir, fmt.Sprint("chronik", id)), s.nodes[id], args); err != nil {
			break
		}
	}
	for id := int32(1); err == nil && int(id) <= nodes; id++ {
		err = listens(running[id], s.nodes[id])
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func runChronik(binary, dir, kafka string, more []string) (*process, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	args := append([]string{"start", "--data-dir", filepath.Join(dir, "data"), "--kafka", kafka, "--http", ""}, more...)
	for _, s := range settings {
		k, v, _ := strings.Cut(s, "=")
		args = append(args, "--"+strings.ReplaceAll(k, ".", "-"), v)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(binary, args...), ended: make(chan struct{}), log: log}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start chronik: %w", err)
	}
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	return p, nil
}

// listens waits until a process takes connections.
func listens(p *process, addr string) error {
	for range 1200 {
		select {
		case <-p.ended:
			text, _ := os.ReadFile(p.log.Name())
			return fmt.Errorf("chronik ended: %s", text)
		case <-time.After(50 * time.Millisecond):
		}
		if sock, err := net.Dial("tcp", addr); err == nil {
			_ = sock.Close()
			return nil
		}
	}
	return fmt.Errorf("chronik does not listen on %s", addr)
}
