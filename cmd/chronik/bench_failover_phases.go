package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// timeline is what the nodes' logs say of a failover.
type timeline struct {
	log io.Writer

	mu     sync.Mutex
	events map[string][]time.Time // by message, since the last reset
}

func newTimeline(log io.Writer) *timeline {
	return &timeline{log: log, events: map[string][]time.Time{}}
}

// The lines that tell of a phase.
const (
	lineProcessEnded  = "process of a peer has ended"
	lineController    = "became active controller"
	lineFenced        = "broker fenced"
	lineShutdownBegan = "broker shutdown began"
	lineLed           = "leads partitions"
	lineStopped       = "stopped"
)

// line takes a line of a node's log; errors are passed on.
func (t *timeline) line(node int, text []byte) {
	var line struct {
		Time  time.Time `json:"time"`
		Level string    `json:"level"`
		Msg   string    `json:"msg"`
	}
	if json.Unmarshal(text, &line) != nil || line.Level == "ERROR" {
		fmt.Fprintf(t.log, "node %d: %s\n", node, text)
		return
	}
	switch line.Msg {
	case lineProcessEnded, lineController, lineFenced, lineShutdownBegan, lineLed, lineStopped:
		t.mu.Lock()
		t.events[line.Msg] = append(t.events[line.Msg], line.Time)
		t.mu.Unlock()
	}
}

func (t *timeline) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.events)
}

// after returns the first or the last of the lines, in ms since t0, that were
// written from then on.
func (t *timeline) after(t0 time.Time, last bool, lines ...string) *float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var times []time.Time
	for _, l := range lines {
		for _, at := range t.events[l] {
			if !at.Before(t0) {
				times = append(times, at)
			}
		}
	}
	if len(times) == 0 {
		return nil
	}
	slices.SortFunc(times, time.Time.Compare)
	at := times[0]
	if last {
		at = times[len(times)-1]
	}
	return since(t0, at)
}

func since(t0, at time.Time) *float64 {
	ms := milliseconds(at.Sub(t0))
	return &ms
}

func medianPhases(all []failoverPhases) failoverPhases {
	median := func(of func(p *failoverPhases) *float64) *float64 {
		var values []float64
		for i := range all {
			if v := of(&all[i]); v != nil {
				values = append(values, *v)
			}
		}
		if len(values) == 0 {
			return nil
		}
		slices.Sort(values)
		return &values[len(values)/2]
	}
	return failoverPhases{
		Noticed: median(func(p *failoverPhases) *float64 { return p.Noticed }),
		Elected: median(func(p *failoverPhases) *float64 { return p.Elected }),
		Decided: median(func(p *failoverPhases) *float64 { return p.Decided }),
		Led:     median(func(p *failoverPhases) *float64 { return p.Led }),
		Fresh:   median(func(p *failoverPhases) *float64 { return p.Fresh }),
		Half:    median(func(p *failoverPhases) *float64 { return p.Half }),
		All:     median(func(p *failoverPhases) *float64 { return p.All }),
		Stopped: median(func(p *failoverPhases) *float64 { return p.Stopped }),
	}
}
