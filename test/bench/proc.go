package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const tick = time.Second / 100 // USER_HZ, fixed by Linux's ABI

// processCPU is the user and system time of a process with all its threads.
func processCPU(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	return ticks(fields, 11, 12)
}

// machineCPU is the time that all processors of the machine were busy.
func machineCPU() (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	// cpu user nice system idle iowait irq softirq steal
	return ticks(strings.Fields(string(line)), 1, 2, 3, 6, 7, 8)
}

func ticks(fields []string, which ...int) (time.Duration, error) {
	var sum time.Duration
	for _, i := range which {
		if i >= len(fields) {
			return 0, fmt.Errorf("only %d fields in /proc", len(fields))
		}
		v, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(v) * tick
	}
	return sum, nil
}

// peakRSS is the most memory that a process has had resident, in MiB.
func peakRSS(pid int) float64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // gone: 0
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

// meter reads three clocks of processor time at once.
type meter struct {
	at                      time.Time
	broker, client, machine time.Duration
}

func readMeter(brokers []int) (m meter, err error) {
	m.at = time.Now()
	for _, pid := range brokers {
		one, err := processCPU(pid)
		if err != nil {
			return m, err
		}
		m.broker += one
	}
	if m.client, err = processCPU(os.Getpid()); err != nil {
		return m, err
	}
	m.machine, err = machineCPU()
	return m, err
}

func (m meter) since(from meter) usage {
	u := usage{Seconds: m.at.Sub(from.at).Seconds(), BrokerCPU: (m.broker - from.broker).Seconds(), ClientCPU: (m.client - from.client).Seconds()}
	u.ForeignCPU = max(0, (m.machine-from.machine).Seconds()-u.BrokerCPU-u.ClientCPU) / u.Seconds
	return u
}

// usage is what went by between two readings.
type usage struct {
	Seconds    float64 `json:"seconds"`
	BrokerCPU  float64 `json:"broker_cpu_s"`
	ClientCPU  float64 `json:"client_cpu_s"`
	ForeignCPU float64 `json:"foreign_cpus"` // processors that others kept busy
}
