package api_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/base/kafka"
	"chronik/internal/format/wire"
)

func apiVersions(n *node, version int16) *kmsg.ApiVersionsResponse {
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = version, "apache-kafka-java", "4.3.1"
	return ask[*kmsg.ApiVersionsResponse](n, req)
}

// Trap 6: nothing is advertised that cannot be decoded, served and encoded.
func TestEveryAdvertisedVersionIsServed(t *testing.T) {
	n := newNode(t, nil)
	for _, k := range apiVersions(n, 4).ApiKeys {
		for version := k.MinVersion; version <= k.MaxVersion; version++ {
			if k.ApiKey == 0 && version < 3 {
				continue // trap 5: advertised and not served
			}
			req := kmsg.RequestForKey(k.ApiKey)
			req.SetVersion(version)
			switch r := req.(type) {
			case *kmsg.ApiVersionsRequest:
				r.ClientSoftwareName, r.ClientSoftwareVersion = "x", "1"
			case *kmsg.ProduceRequest:
				r.Acks = -1
			}
			a := n.wait(n.send(req))
			if a.resp == nil || a.close {
				t.Errorf("%s v%d: no response: %v", kmsg.NameForKey(k.ApiKey), version, a.err)
			}
		}
	}
}

// Traps 5, 7, 8: the ranges are those of Kafka 4.3.1, or a part of them that
// begins where Kafka's begins.
func TestAdvertisedRangesAreKafkas(t *testing.T) {
	kafka431 := map[int16][2]int16{0: {0, 13}, 1: {4, 18}, 2: {1, 11}, 3: {0, 13}, 8: {2, 10}, 9: {1, 10}, 10: {0, 6}, 11: {0, 9},
		12: {0, 4}, 13: {0, 5}, 14: {0, 5}, 15: {0, 6}, 16: {0, 5}, 18: {0, 4}, 19: {2, 7}, 20: {1, 6}, 21: {0, 2}, 22: {0, 5}, 23: {2, 4},
		32: {1, 4}, 33: {0, 2}, 35: {1, 5}, 37: {0, 3}, 42: {0, 2}, 43: {0, 2}, 44: {0, 1}, 45: {0, 1}, 46: {0, 0}, 47: {0, 0}, 55: {0, 2}, 60: {0, 2},
		61: {0, 0}, 64: {0, 0}, 68: {0, 1}, 69: {0, 1}, 74: {0, 1}, 75: {0, 0}}
	n := newNode(t, nil)
	last := int16(-1)
	for _, k := range apiVersions(n, 3).ApiKeys {
		if want, ok := kafka431[k.ApiKey]; !ok || k.MinVersion != want[0] || k.MaxVersion != want[1] {
			t.Errorf("%s: %d-%d, Kafka has %v", kmsg.NameForKey(k.ApiKey), k.MinVersion, k.MaxVersion, want)
		}
		if k.ApiKey <= last {
			t.Errorf("key %d comes after %d", k.ApiKey, last)
		}
		last = k.ApiKey
	}
}

func TestUnknownVersionsOfApiVersionsAreToldTheRange(t *testing.T) { // bad-input 5.1, traps 1 and 2
	n := newNode(t, nil)
	for _, version := range []int16{5, 6, 99, 32767, -1, -32768} {
		frame := binary.BigEndian.AppendUint16(nil, 18)
		frame = binary.BigEndian.AppendUint16(frame, uint16(version))
		frame = binary.BigEndian.AppendUint32(frame, 77)
		frame = append(frame, 0, 1, 'x', 0, 2, 'a', 2, 'b', 0)
		a := n.handle(n.client, frame, 18, version)
		if version < 0 && a.close {
			continue // a header without tags: Kafka closes as well
		}
		if a.resp == nil {
			t.Errorf("v%d: close %v, %v", version, a.close, a.err)
			continue
		}
		want := []byte{0, 0, 0, 16, 0, 0, 0, 77, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4}
		if !slices.Equal(a.bytes, want) {
			t.Errorf("v%d: got % x, want % x", version, a.bytes, want)
		}
	}
}

func TestApiVersionsChecksTheSoftware(t *testing.T) { // bad-input 5.1
	n := newNode(t, nil)
	long := string(slices.Repeat([]byte("x"), 500))
	for name, want := range map[string]kafka.ErrorCode{
		"a": kafka.None, "a-b.c": kafka.None, long: kafka.None, "9": kafka.None,
		"": kafka.ErrInvalidRequest, "a b": kafka.ErrInvalidRequest, "a_b": kafka.ErrInvalidRequest, "a/b": kafka.ErrInvalidRequest,
		"é": kafka.ErrInvalidRequest, "-a": kafka.ErrInvalidRequest, "a-": kafka.ErrInvalidRequest, ".a": kafka.ErrInvalidRequest, "a.": kafka.ErrInvalidRequest,
	} {
		for _, version := range []int16{3, 4} {
			req := kmsg.NewPtrApiVersionsRequest()
			req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = version, name, "1"
			expect(t, "name "+name, ask[*kmsg.ApiVersionsResponse](n, req).ErrorCode, want)
			req.ClientSoftwareName, req.ClientSoftwareVersion = "a", name
			expect(t, "version "+name, ask[*kmsg.ApiVersionsResponse](n, req).ErrorCode, want)
		}
	}
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 2, "a b", ""
	expect(t, "v2 has no software", ask[*kmsg.ApiVersionsResponse](n, req).ErrorCode, kafka.None)
}

func TestFeaturesDoNotPromiseTransactions(t *testing.T) {
	n := newNode(t, nil)
	for _, version := range []int16{3, 4} {
		for _, f := range apiVersions(n, version).FinalizedFeatures {
			if f.Name == "transaction.version" && f.MaxVersionLevel >= 2 {
				t.Errorf("v%d: %s %d is finalized", version, f.Name, f.MaxVersionLevel)
			}
		}
	}
}

func TestWhatCannotBeReadClosesTheConnection(t *testing.T) { // bad-input 5.1
	n := newNode(t, nil)
	header := func(key, version int16, rest ...byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, uint16(key))
		b = binary.BigEndian.AppendUint16(b, uint16(version))
		b = binary.BigEndian.AppendUint32(b, 5)
		return append(b, rest...)
	}
	full := func(req kmsg.Request) []byte { return wire.AppendRequest(nil, 5, nil, req)[4:] }
	meta := kmsg.NewPtrMetadataRequest()
	meta.Version = 12
	whole := full(meta)
	var fetch12 []byte
	{
		req := fetchRequest(12, "t", kafka.TopicID{}, 0, 0)
		fetch12 = full(req)
		fetch12 = append(fetch12[:len(fetch12)-1], 1, 1, 1, 0) // tag 1, one byte: known from v15 on only
	}
	for name, frame := range map[string][]byte{
		"empty":                       {},
		"one byte":                    {0},
		"header without client id":    header(3, 1),
		"unknown key":                 header(999, 0, 0xff, 0xff),
		"negative key":                header(-1, 0, 0xff, 0xff),
		"removed key":                 header(4, 0, 0xff, 0xff),
		"key of controllers":          header(52, 0, 0xff, 0xff, 0),
		"negative version":            header(3, -1, 0xff, 0xff),
		"version above":               header(3, 14, 0xff, 0xff, 0),
		"Produce v2":                  header(0, 2, 0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0),
		"client id longer than frame": header(3, 1, 0x7f, 0xff, 'x'),
		"body cut":                    whole[:len(whole)-2],
		"body missing":                header(3, 1, 0xff, 0xff),
		"array larger than the frame": header(3, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff),
		"null where there is no null": header(3, 1, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff),
		"tag section broken":          header(3, 9, 0xff, 0xff, 3, 1),
		"tag of a later version":      fetch12,
		"TLS hello":                   {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3, 4},
		"HTTP":                        []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
	} {
		a := n.handle(n.client, slices.Clone(frame), 0, 0)
		if !a.came || !a.close || a.resp != nil || a.err == nil {
			t.Errorf("%s: answered %v, close %v, response %T, err %v", name, a.came, a.close, a.resp, a.err)
		}
	}
	for name, frame := range map[string][]byte{
		"null client id":      header(3, 1, 0xff, 0xff, 0, 0, 0, 0),
		"client id of -2":     header(3, 1, 0xff, 0xfe, 0, 0, 0, 0),
		"bytes after the end": header(3, 1, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3),
		"array of -2":         header(3, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe),
		"client id no UTF-8":  header(3, 1, 0, 2, 0xff, 0xfe, 0, 0, 0, 0),
		"unknown header tag":  header(3, 9, 0xff, 0xff, 1, 99, 2, 7, 7, 1, 1, 0, 0, 0),
		"boolean of 7":        header(3, 4, 0xff, 0xff, 0, 0, 0, 0, 7),
	} {
		if a := n.wait(n.handle(n.client, slices.Clone(frame), 3, 1)); a.close || a.resp == nil {
			t.Errorf("%s: close %v, %v", name, a.close, a.err)
		}
	}
}

func TestHandlersAreInOrder(t *testing.T) {
	if !slices.IsSortedFunc(api.Handlers(), func(a, b api.Handler) int { return int(a.Key) - int(b.Key) }) {
		t.Error("the table is not in the order of the keys")
	}
	for _, h := range api.Handlers() {
		if low, high, ok := wire.Versions(h.Key); !ok || h.Min < low || h.Max > high || h.Min > h.Max {
			t.Errorf("%s %d-%d: the codec has %d-%d", h.Name, h.Min, h.Max, low, high)
		}
	}
}
