package wire

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// forEachVersion runs check for every key and version of the table.
func forEachVersion(t testing.TB, check func(t testing.TB, key, version int16)) {
	t.Helper()
	for key := range int16(len(schemas)) {
		_, last, ok := Versions(key)
		if !ok {
			continue
		}
		for v := int16(0); v <= last; v++ {
			check(t, key, v)
		}
	}
}

// randomRequest returns a request with every field filled at random.
func randomRequest(r *rand.Rand, key, version int16) kmsg.Request {
	req := kmsg.RequestForKey(key)
	fill(r, reflect.ValueOf(req).Elem(), schemas[key].name+"Request", version)
	req.SetVersion(version)
	return req
}

// randomBody returns the body of a random request.
func randomBody(r *rand.Rand, key, version int16) []byte {
	return randomRequest(r, key, version).AppendTo(nil)
}

// tagVersions has the fields that kmsg sends as tags at any flexible version
// when they are set, and the version from which they may be.
var tagVersions = map[string]int16{
	"FetchRequest.ReplicaState":                             15,
	"FetchRequestTopicPartition.ReplicaDirectoryID":         17,
	"FetchRequestTopicPartition.HighWatermark":              18,
	"FetchSnapshotRequestTopicPartition.ReplicaDirectoryID": 1,
	"BrokerHeartbeatRequest.OfflineLogDirs":                 1,
	"BrokerHeartbeatRequest.CordonedLogDirs":                2,
}

func fill(r *rand.Rand, v reflect.Value, name string, version int16) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 1)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> (64 - v.Type().Bits()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits()))
	case reflect.Float64:
		v.SetFloat(r.NormFloat64())
	case reflect.String:
		v.SetString(string(randomBytes(r)))
	case reflect.Pointer:
		if r.IntN(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), v.Type().Elem().Name(), version)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i), "", version)
		}
	case reflect.Slice:
		fillSlice(r, v, version)
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			if r.IntN(3) == 0 {
				tags.Set(uint32(10+r.IntN(1000)), randomBytes(r))
			}
			return
		}
		if d, ok := v.Addr().Interface().(interface{ Default() }); ok {
			d.Default()
		}
		for i := range v.NumField() {
			field := v.Type().Field(i).Name
			if version < tagVersions[v.Type().Name()+"."+field] {
				continue
			}
			fill(r, v.Field(i), field, version)
		}
	default:
		panic(fmt.Sprintf("%s: cannot fill a %s", name, v.Type()))
	}
}

func fillSlice(r *rand.Rand, v reflect.Value, version int16) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		v.SetBytes(randomBytes(r))
		return
	}
	if r.IntN(5) == 0 {
		return // null where it may be, empty elsewhere
	}
	n := r.IntN(4)
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		fill(r, v.Index(i), v.Type().Elem().Name(), version)
	}
}

func randomBytes(r *rand.Rand) []byte {
	b := make([]byte, r.IntN(20))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
