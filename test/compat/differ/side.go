package main

import (
	"fmt"
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
	addr   string           // of node 1
	nodes  map[int32]string // of all
	offers map[int16]span   // as ApiVersions says
	common map[int16]span   // what both offer and kmsg can encode
	stop   func()
	kill   func(node int32) error // as kill -9 does
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
