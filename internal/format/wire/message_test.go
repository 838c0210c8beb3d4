package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func randomBodyOf(t testing.TB, key, version int16) []byte {
	t.Helper()
	return randomBody(rand.New(rand.NewPCG(7, 7)), key, version)
}

func produce(records []byte, version int16) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = version, -1
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: "orders", TopicID: [16]byte{1},
		Partitions: []kmsg.ProduceRequestTopicPartition{{Records: records}}}}
	return req
}

func TestRequestsSurviveFrameHeaderAndBody(t *testing.T) {
	name := "client"
	for _, client := range []*string{nil, new(string), &name} {
		forEachVersion(t, func(t testing.TB, key, version int16) {
			req := randomRequest(rand.New(rand.NewPCG(uint64(key), 3)), key, version)
			prefix := []byte("before")
			b := AppendRequest(prefix, -7, client, req)[len(prefix):]
			if want := kmsgFrame(client, req); !bytes.Equal(b, want) {
				t.Fatalf("key %d version %d: framed\n%x, kmsg frames\n%x", key, version, b, want)
			}
			h, err := ParseHeader(b[lengthBytes:])
			if err != nil {
				t.Fatalf("key %d version %d: %v", key, version, err)
			}
			if h.Key != key || h.Version != version || h.CorrelationID != -7 || h.ClientIDNull != (client == nil) {
				t.Fatalf("header %+v", h)
			}
			if client != nil && h.ClientID != *client {
				t.Fatalf("client id %q", h.ClientID)
			}
			if want := req.AppendTo(nil); !bytes.Equal(h.Body, want) {
				t.Fatalf("body %x, want %x", h.Body, want)
			}
		})
	}
}

// kmsgFrame is what kmsg itself makes of a request, with the same id.
func kmsgFrame(client *string, req kmsg.Request) []byte {
	f := kmsg.NewRequestFormatter()
	if client != nil {
		f = kmsg.NewRequestFormatter(kmsg.FormatterClientID(*client))
	}
	return f.AppendRequest(nil, req, -7)
}

func TestResponsesCarryTheHeaderOfTheirVersion(t *testing.T) { // trap 4
	forEachVersion(t, func(t testing.TB, key, version int16) {
		resp := kmsg.ResponseForKey(key)
		resp.SetVersion(version)
		if d, ok := resp.(interface{ Default() }); ok {
			d.Default()
		}
		b := AppendResponse([]byte("x"), 42, resp)[1:]
		if n := binary.BigEndian.Uint32(b); int(n) != len(b)-lengthBytes {
			t.Fatalf("key %d version %d: length %d of %d bytes", key, version, n, len(b))
		}
		want := 4 + len(resp.AppendTo(nil))
		if isFlexible(key, version) && key != apiVersionsKey {
			want++
		}
		if len(b)-lengthBytes != want {
			t.Errorf("key %d version %d: %d bytes, want %d", key, version, len(b)-lengthBytes, want)
		}
		id, got, err := DecodeResponse(key, version, b[lengthBytes:])
		if err != nil || id != 42 {
			t.Fatalf("key %d version %d: id %d, %v", key, version, id, err)
		}
		if !bytes.Equal(got.AppendTo(nil), resp.AppendTo(nil)) {
			t.Errorf("key %d version %d: decoded differently", key, version)
		}
	})
}

func TestRefusedApiVersionsIsAnsweredInVersionZero(t *testing.T) {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = 35
	resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{ApiKey: 18, MinVersion: 0, MaxVersion: 4}}
	got := AppendResponse(nil, 9, resp)
	want := unhex(t, "00000010 00000009 0023 00000001 0012 0000 0004")
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestDecodeResponseRefusesWhatIsNone(t *testing.T) {
	if _, _, err := DecodeResponse(999, 0, make([]byte, 8)); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("unknown key: %v", err)
	}
	for _, b := range []string{"", "000000", "00000001", "00000001 01", "00000001 00 00"} {
		if _, _, err := DecodeResponse(3, 9, unhex(t, b)); err == nil {
			t.Errorf("%q decoded", b)
		}
	}
}

func TestProducedRecordsAliasTheFrame(t *testing.T) {
	for _, version := range []int16{3, 9, 13} {
		body := produce([]byte("records"), version).AppendTo(nil)
		req, err := DecodeRequest(0, version, body)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(body, []byte("records"))
		got := req.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records
		if &got[0] != &body[at] || cap(got) != len(got) {
			t.Errorf("version %d: records are copied, or can be appended to within the frame", version)
		}
	}
}

func TestOtherRequestsOutliveTheFrame(t *testing.T) {
	aliasing := map[int16]bool{0: true, 58: true, 72: true}
	forEachVersion(t, func(t testing.TB, key, version int16) {
		if aliasing[key] {
			return
		}
		full := randomRequest(rand.New(rand.NewPCG(uint64(key), 5)), key, version)
		dropTags(reflect.ValueOf(full).Elem())
		body := full.AppendTo(nil)
		want := bytes.Clone(body)
		req, err := DecodeRequest(key, version, body)
		if err != nil {
			t.Fatal(err)
		}
		for i := range body {
			body[i] = poisonByte
		}
		if !bytes.Equal(req.AppendTo(nil), want) {
			t.Errorf("key %d version %d: changed with its frame", key, version)
		}
	})
}

// dropTags empties the unknown tags, which no handler reads and which alias
// the frame.
func dropTags(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			dropTags(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			dropTags(v.Index(i))
		}
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			*tags = kmsg.Tags{}
			return
		}
		for i := range v.NumField() {
			dropTags(v.Field(i))
		}
	}
}
