package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// clientID is what requests say, and what member ids begin with on Kafka.
const clientID = "differ"

var errNoAnswer = errors.New("no answer")

// connection is one TCP connection, dialled when it is first needed and again
// after the server has closed it.
type connection struct {
	addr    string
	timeout time.Duration
	sock    net.Conn
	next    int32
}

func (c *connection) close() {
	if c.sock != nil {
		_ = c.sock.Close()
		c.sock = nil
	}
}

func (c *connection) write(bytes []byte) error {
	if c.sock == nil {
		sock, err := net.DialTimeout("tcp", c.addr, 5*time.Second)
		if err != nil {
			return err
		}
		c.sock = sock
	}
	_ = c.sock.SetDeadline(time.Now().Add(c.timeout))
	_, err := c.sock.Write(bytes)
	return err
}

// readFrame returns a response frame without its length. io.EOF stands for any
// way in which the server closed the connection.
func (c *connection) readFrame() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(c.sock, size[:]); err != nil {
		return nil, c.lost(err)
	}
	n := int32(binary.BigEndian.Uint32(size[:]))
	if n < 4 || n > 200<<20 {
		c.close()
		return nil, fmt.Errorf("response of %d bytes", n)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(c.sock, frame); err != nil {
		return nil, c.lost(err)
	}
	return frame, nil
}

func (c *connection) lost(err error) error {
	c.close()
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return errNoAnswer
	}
	return io.EOF
}

// header appends a request header; a nil client id is null.
func header(dst []byte, key, version int16, correlation int32, client *string, flexible bool) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(key))
	dst = binary.BigEndian.AppendUint16(dst, uint16(version))
	dst = binary.BigEndian.AppendUint32(dst, uint32(correlation))
	if client == nil {
		dst = append(dst, 0xff, 0xff)
	} else {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(*client)))
		dst = append(dst, *client...)
	}
	if flexible {
		dst = append(dst, 0)
	}
	return dst
}

// frame puts a length before a header and a body.
func frame(parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(n))
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// encode is the whole frame of a request.
func encode(req kmsg.Request, correlation int32) []byte {
	name := clientID
	return frame(header(nil, req.Key(), req.GetVersion(), correlation, &name, req.IsFlexible()), req.AppendTo(nil))
}

// decode reads the answer to a request of that key and version, and refuses
// one that has more bytes than its fields account for.
func decode(into kmsg.Response, correlation int32, frame []byte) error {
	if got := int32(binary.BigEndian.Uint32(frame)); got != correlation {
		return fmt.Errorf("correlation id %d instead of %d", got, correlation)
	}
	body := frame[4:]
	if into.IsFlexible() && into.Key() != int16(kmsg.ApiVersions) {
		if len(body) == 0 || body[0] != 0 {
			return fmt.Errorf("response header with tags: % x", body[:min(len(body), 8)])
		}
		body = body[1:]
	}
	if err := into.ReadFrom(body); err != nil {
		return fmt.Errorf("undecodable: %w: % x", err, body[:min(len(body), 64)])
	}
	if again := into.AppendTo(nil); !bytes.Equal(again, body) {
		return fmt.Errorf("%d bytes, which read and written again are %d others", len(body), len(again))
	}
	return nil
}
