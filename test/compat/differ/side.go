package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// span is a range of versions.
type span struct{ min, max int16 }

func (s span) String() string {
	if s.min == s.max {
		return fmt.Sprint(s.min)
	}
	return fmt.Sprintf("%d-%d", s.min, s.max)
}

// side is one of the two servers.
type side struct {
	name   string
	addr   string
	offers map[int16]span // as ApiVersions says
	common map[int16]span // what both offer and kmsg can encode
	stop   func()
}

// settings are the same for both servers.
var settings = []string{
	"group.initial.rebalance.delay.ms=0",
	"offsets.topic.num.partitions=4",
}

// kafkaSettings are those that Chronik does not have; they make Kafka smaller.
var kafkaSettings = []string{
	"transaction.state.log.num.partitions=4",
	"share.coordinator.state.topic.num.partitions=2",
}

// freePort finds a port that is free, as is the next.
func freePort() (int, error) {
	for range 50 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = a.Close()
		if err == nil {
			_ = b.Close()
			return port, nil
		}
	}
	return 0, fmt.Errorf("no two free ports in a row")
}

// startKafka runs Apache Kafka by the script of this module.
func startKafka(module, dir string) (*side, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	script := func(args ...string) ([]byte, error) {
		cmd := exec.Command(filepath.Join(module, "kafka"), args...)
		cmd.Env = append(os.Environ(), "KAFKA_DATA="+dir, "KAFKA_PORT="+strconv.Itoa(port))
		cmd.Stderr = os.Stderr
		return cmd.Output()
	}
	args := append(append([]string{"start", "1"}, kafkaSettings...), settings...)
	out, err := script(args...)
	if err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	return &side{name: "kafka", addr: string(bytes.TrimSpace(out)), stop: func() { _, _ = script("stop") }}, nil
}

// startChronik runs this repository's broker, which it builds unless there is a
// binary.
func startChronik(module, binary, dir string) (*side, error) {
	if binary == "" {
		binary = filepath.Join(dir, "chronik")
		build := exec.Command("go", "build", "-o", binary, "./cmd/chronik")
		build.Dir = filepath.Join(module, "..", "..")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return nil, fmt.Errorf("build chronik: %w", err)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	args := []string{"start", "--data-dir", filepath.Join(dir, "data"), "--kafka", addr,
		"--peer", fmt.Sprintf("127.0.0.1:%d", port+1), "--http", ""}
	for _, s := range settings {
		k, v, _ := strings.Cut(s, "=")
		args = append(args, "--"+strings.ReplaceAll(k, ".", "-"), v)
	}
	logFile, err := os.Create(filepath.Join(dir, "chronik.log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start chronik: %w", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = logFile.Close()
	}
	s := &side{name: "chronik", addr: addr, stop: stop}
	for range 100 {
		select {
		case <-ended:
			text, _ := os.ReadFile(logFile.Name())
			return nil, fmt.Errorf("chronik ended: %s", text)
		case <-time.After(50 * time.Millisecond):
		}
		if sock, err := net.Dial("tcp", addr); err == nil {
			_ = sock.Close()
			return s, nil
		}
	}
	stop()
	return nil, fmt.Errorf("chronik does not listen on %s", addr)
}

// learn asks what the server offers.
func (s *side) learn() error {
	conn := connection{addr: s.addr, timeout: 5 * time.Second}
	defer conn.close()
	req := kmsg.NewPtrApiVersionsRequest()
	req.SetVersion(3)
	req.ClientSoftwareName, req.ClientSoftwareVersion = "differ", "1"
	if err := conn.write(encode(req, 1)); err != nil {
		return err
	}
	frame, err := conn.readFrame()
	if err != nil {
		return err
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.SetVersion(3)
	if err := decode(resp, 1, frame); err != nil {
		return fmt.Errorf("%s: ApiVersions: %w", s.name, err)
	}
	s.offers = map[int16]span{}
	for _, k := range resp.ApiKeys {
		s.offers[k.ApiKey] = span{k.MinVersion, k.MaxVersion}
	}
	return nil
}

// agree works out what all sides offer and kmsg can encode.
func agree(sides ...*side) {
	common := map[int16]span{}
	for key, versions := range sides[0].offers {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		versions.max = min(versions.max, req.MaxVersion())
		for _, s := range sides[1:] {
			other, ok := s.offers[key]
			if !ok {
				versions = span{1, 0}
				break
			}
			versions.min, versions.max = max(versions.min, other.min), min(versions.max, other.max)
		}
		if versions.min <= versions.max {
			common[key] = versions
		}
	}
	for _, s := range sides {
		s.common = common
	}
}

// Wake has the server make its internal topics, so that no case has to wait for
// them.
func (s *side) wake() error {
	if _, ok := s.offers[int16(kmsg.FindCoordinator)]; !ok {
		return nil
	}
	deadline := time.Now().Add(20 * time.Second)
	conn := connection{addr: s.addr, timeout: 5 * time.Second}
	defer conn.close()
	for kind := int8(0); kind < 2; kind++ {
		for {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.SetVersion(2)
			req.CoordinatorKey, req.CoordinatorType = "wake", kind
			resp := kmsg.NewPtrFindCoordinatorResponse()
			resp.SetVersion(2)
			if err := conn.write(encode(req, 1)); err != nil {
				return err
			}
			frame, err := conn.readFrame()
			if err != nil {
				return err
			}
			if err := decode(resp, 1, frame); err != nil {
				return err
			}
			if resp.ErrorCode == 0 || kind == 1 && resp.ErrorCode != 15 {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s: no coordinator of kind %d: code %d", s.name, kind, resp.ErrorCode)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return nil
}
