package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fakeBroker answers as a broker that is not one of Chronik's may: it is a
// cluster of one node, and what answers has, by the key of the request, takes
// the place of its own answers. Requests without an answer it does not know.
func fakeBroker(t *testing.T, answers map[int16]func(kmsg.Request) kmsg.Response) string {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	host, text, _ := net.SplitHostPort(socket.Addr().String())
	port, _ := strconv.Atoi(text)
	known := map[int16]func(kmsg.Request) kmsg.Response{
		3: func(r kmsg.Request) kmsg.Response {
			m := r.ResponseKind().(*kmsg.MetadataResponse)
			m.ControllerID, m.ClusterID = 1, kmsg.StringPtr("fake")
			m.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: host, Port: int32(port)}}
			return m
		},
		60: func(r kmsg.Request) kmsg.Response {
			d := r.ResponseKind().(*kmsg.DescribeClusterResponse)
			d.ClusterID, d.ControllerID = "fake", 1
			d.Brokers = []kmsg.DescribeClusterResponseBroker{{NodeID: 1, Host: host, Port: int32(port)}}
			return d
		},
		35: func(r kmsg.Request) kmsg.Response { return r.ResponseKind() },
		0:  func(r kmsg.Request) kmsg.Response { return r.ResponseKind() }, // without it clients do not believe the list
	}
	for key, answer := range answers {
		known[key] = answer
	}
	known[18] = func(r kmsg.Request) kmsg.Response {
		v := r.ResponseKind().(*kmsg.ApiVersionsResponse)
		for key := range known {
			v.ApiKeys = append(v.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: kmsg.RequestForKey(key).MaxVersion()})
		}
		return v
	}
	go func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for answerOne(conn, known) == nil {
				}
			}()
		}
	}()
	return socket.Addr().String()
}

// answerOne reads a request from a connection and answers it.
func answerOne(conn net.Conn, known map[int16]func(kmsg.Request) kmsg.Response) error {
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, frame); err != nil {
		return err
	}
	key, version := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))
	request := kmsg.RequestForKey(key)
	request.SetVersion(version)
	body := frame[10+max(0, int(int16(binary.BigEndian.Uint16(frame[8:])))):]
	if request.IsFlexible() {
		body = body[1:] // no tags
	}
	if err := request.ReadFrom(body); err != nil {
		return err
	}
	answer := known[key]
	if answer == nil {
		return fmt.Errorf("request %d is not known", key)
	}
	response := answer(request)
	response.SetVersion(version)
	out := append(make([]byte, 4), frame[4:8]...)
	if request.IsFlexible() && key != 18 {
		out = append(out, 0)
	}
	out = response.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	_, err := conn.Write(out)
	return err
}
