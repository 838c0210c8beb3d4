package main

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill gives every field of a request something, and every array one element,
// so that there is a body to cut and to add to.
func fill(v reflect.Value, name, text string) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name, text)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Name != "Version" && f.Name != "UnknownTags" && f.IsExported() {
				fill(v.Field(i), f.Name, text)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte("bytes"))
			return
		}
		fill(v.Index(0), name, text)
	case reflect.String:
		v.SetString(text)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
		if name == "TimeoutMillis" {
			v.SetInt(10000)
		}
	case reflect.Float64:
		v.SetFloat(1)
	}
}

// untouched are the keys whose filled-in requests would change what all share,
// or that answer what the rest of the run decides.
var untouched = map[int16]bool{
	17: true, 36: true, // end what a connection may be used for
	64: true, 80: true, 81: true, 57: true, // take the cluster apart
	0: true, // an acknowledgement of 1 for no bytes is looked at elsewhere
}

// loading are the keys that may be answered by a coordinator which is not
// there yet, or with what others do meanwhile: that is asked elsewhere.
var loading = map[int16]bool{3: true, 16: true, 18: true, 22: true, 24: true, 25: true, 26: true, 28: true}

const framesCase = "frames"

// frames are the frames that no client sends, for each key at each version.
func frames(key int16) Case {
	return Case{Key: key, Name: framesCase, Run: func(c *Conversation) {
		c.Wait(4 * time.Second)
		name := clientID
		req := kmsg.RequestForKey(key)
		fill(reflect.ValueOf(req).Elem(), "", c.Name("filled-in"))
		req.SetVersion(c.V)
		body := req.AppendTo(nil)
		head := header(nil, key, c.V, 1, &name, req.IsFlexible())
		outcome := func(label string, parts ...[]byte) { c.Frame(label, frame(parts...), 1, nil) }

		for _, cut := range []int{1, 2, len(body) / 2, len(body)} {
			if cut <= len(body) && cut > 0 {
				outcome(fmt.Sprint("cut by ", cut, " of ", len(body)), head, body[:len(body)-cut])
			}
		}
		outcome("header alone, cut", head[:6])
		for at := 0; at < len(body) && at < 40; at++ {
			broken := append([]byte{}, body...)
			broken[at] = 0xfe
			if at+1 < len(broken) {
				broken[at+1] = 0xff
			}
			if harmless(key, at) {
				outcome(fmt.Sprint("bytes from ", at, " spoilt"), head, broken)
			}
		}
		if untouched[key] {
			return
		}
		resp := func() kmsg.Response {
			if loading[key] {
				return nil
			}
			r := req.ResponseKind()
			r.SetVersion(c.V)
			return r
		}
		c.Frame("filled in", frame(head, body), 1, resp())
		c.Frame("and more bytes", frame(head, body, []byte("more")), 1, resp())
		nobody := header(nil, key, c.V, 1, nil, req.IsFlexible())
		c.Frame("null client id", frame(nobody, body), 1, resp())
		if req.IsFlexible() {
			tagged := append(append([]byte{}, head[:len(head)-1]...), 1, 99, 3, 'a', 'b', 'c')
			c.Frame("tag in the header", frame(tagged, body), 1, resp())
			if body[len(body)-1] == 0 && key != 1 { // Fetch has tags of its own there
				c.Frame("tag in the body", frame(head, body[:len(body)-1], []byte{1, 99, 3, 'a', 'b', 'c'}), 1, resp())
			}
			outcome("two tags of one number", head[:len(head)-1], []byte{2, 99, 0, 99, 0}, body)
			outcome("tags in the wrong order", head[:len(head)-1], []byte{2, 99, 0, 98, 0}, body)
			outcome("more tags than bytes", head[:len(head)-1], []byte{0xff, 0xff, 0xff, 0xff, 0x07}, body)
			outcome("tag too long", head[:len(head)-1], []byte{1, 99, 0xff, 0xff, 0x03}, body)
		}
	}, Ignore: []string{"*Topics*ErrorMessage"}}
}

// harmless keeps spoilt bytes from asking for what is not wanted: a body that
// may still be read must not do anything.
func harmless(key int16, _ int) bool {
	switch key {
	case 9, 10, 15, 23, 32, 35, 46, 60, 61, 65, 66, 69, 75, 2:
		return true
	}
	return false
}

func init() {
	for key := int16(0); key < 93; key++ {
		if kmsg.RequestForKey(key) != nil {
			add(frames(key))
		}
	}
	add(
		Case{Key: 18, Name: "odd frames", To: 1, Run: func(c *Conversation) {
			c.Wait(1500 * time.Millisecond)
			name := clientID
			size := func(n int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
			raw := func(label string, bytes []byte) {
				c.Other().Frame(label, bytes, 1, nil)
			}
			for _, n := range []int32{-1, 0, 1, 7, -1 << 31, 1<<31 - 1, 104857601} {
				raw(fmt.Sprint("length ", n), append(size(n), "abcdefghijkl"...))
			}
			for _, key := range []int16{-1, 4, 5, 6, 7, 52, 53, 56, 58, 62, 63, 67, 70, 73, 82, 93, 94, 100, 127, 128, 1000, 32767, -32768} {
				raw(fmt.Sprint("key ", key), frame(header(nil, key, 0, 1, &name, false)))
			}
			for _, key := range []int16{0, 1, 3, 11, 19} {
				for _, version := range []int16{-1, 99, 32767} {
					raw(fmt.Sprint("key ", key, " version ", version), frame(header(nil, key, version, 1, &name, true), []byte{0, 0}))
				}
			}
			raw("http", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
			raw("tls", []byte("\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaa"))
			raw("client id -2", frame([]byte{0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xfe}))
			raw("client id too long", frame([]byte{0, 18, 0, 0, 0, 0, 0, 1, 0x7f, 0xff, 'a'}))
			raw("client id not UTF-8", frame([]byte{0, 18, 0, 0, 0, 0, 0, 1, 0, 2, 0xff, 0xfe}))
		}},
		Case{Key: 18, Name: "versions", Run: func(c *Conversation) {
			ask := func(label, software, version string) {
				req := kmsg.NewPtrApiVersionsRequest()
				req.ClientSoftwareName, req.ClientSoftwareVersion = software, version
				c.Ask(label, req)
			}
			ask("good", "differ", "1.0")
			ask("again", "differ", "1.0")
			for _, bad := range []string{"", "a b", "a_b", "a/b", "ä", "-a", "a-", ".a", "a.", "a-b.c", strings.Repeat("x", 500)} {
				ask(fmt.Sprintf("name %.10q", bad), bad, "1")
				ask(fmt.Sprintf("version %.10q", bad), "differ", bad)
			}
		}, Ignore: []string{"*ApiKeys*"}},
		Case{Key: 18, Name: "unsupported versions", To: 0, Run: func(c *Conversation) {
			if c.V > 0 {
				return
			}
			name := clientID
			for _, version := range []int16{5, 6, 99, 32767, -1} {
				for _, flexible := range []bool{true, false} {
					resp := kmsg.NewPtrApiVersionsResponse()
					body := []byte{7, 'd', 'i', 'f', 'f', 'e', 'r', 2, '1', 0}
					c.Other().Frame(fmt.Sprint("version ", version, " flexible ", flexible), frame(header(nil, 18, version, 1, &name, flexible), body), 1, resp)
				}
			}
		}},
		Case{Key: 17, Name: "on a plaintext listener", Run: func(c *Conversation) {
			for _, m := range []string{"PLAIN", "SCRAM-SHA-256", "", "NOPE"} {
				req := kmsg.NewPtrSASLHandshakeRequest()
				req.Mechanism = m
				c.Ask(m, req)
			}
		}},
		Case{Key: 36, Name: "on a plaintext listener", Run: func(c *Conversation) {
			req := kmsg.NewPtrSASLAuthenticateRequest()
			req.SASLAuthBytes = []byte("\x00user\x00secret")
			c.Ask("plain", req)
		}},
		Case{Key: 18, Name: "order on one connection", From: 3, To: 3, Run: func(c *Conversation) {
			t := c.filled("t", 1)
			fetch := fetchNames(2, t)
			fetch.SetVersion(11)
			fetch.MinBytes, fetch.MaxWaitMillis = 1, 300
			api := kmsg.NewPtrApiVersionsRequest()
			api.SetVersion(0)
			if err := c.conn.write(append(encode(fetch, 1000), encode(api, 1001)...)); err != nil {
				c.Fail("write: %v", err)
			}
			for i := range 2 {
				got, err := c.conn.readFrame()
				if err != nil {
					c.Fail("read: %v", err)
				}
				c.Note(fmt.Sprint("answer ", i), binary.BigEndian.Uint32(got))
			}
		}},
	)
}
