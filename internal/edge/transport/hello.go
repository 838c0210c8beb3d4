package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"chronik/internal/base/kafka"
)

var errHello = errors.New("not a chronik peer: this port is for other nodes, not for clients")

// hello is what a dialler says of itself.
type hello struct {
	version  int
	class    int
	from, to kafka.NodeID
	cluster  string
}

func (r *frameReader) hello() (hello, error) {
	const fixed = 15
	var h hello
	if err := r.need(len(magic)); err != nil {
		return h, err
	}
	if string(r.buf[r.begin:r.begin+len(magic)]) != magic {
		return h, errHello
	}
	if err := r.need(fixed); err != nil {
		return h, err
	}
	b := r.buf[r.begin:]
	h.version, h.class = int(b[4]), int(b[5])
	h.from, h.to = kafka.NodeID(binary.BigEndian.Uint32(b[6:])), kafka.NodeID(binary.BigEndian.Uint32(b[10:]))
	n := int(b[14])
	if err := r.need(fixed + n); err != nil {
		return h, err
	}
	h.cluster = string(r.buf[r.begin+fixed : r.begin+fixed+n])
	r.begin += fixed + n
	return h, nil
}

// greet reads a hello and answers it.
func (t *Transport) greet(c net.Conn, r *frameReader) (kafka.NodeID, int, error) {
	h, err := r.hello()
	if err != nil {
		return 0, 0, err
	}
	var reason string
	code := byte(1)
	probe := h.class == classProbe && t.options.Answer != nil
	switch own := t.options.ClusterID(); {
	case h.version != version:
		reason = fmt.Sprintf("node %d speaks version %d of the peer protocol, this node version %d: run the same release", t.options.Node, version, h.version)
	case h.class >= classes && !probe:
		reason = fmt.Sprintf("unknown class %d", h.class)
	case h.to != t.options.Node && !(probe && h.to == anyNode):
		reason = fmt.Sprintf("this is node %d, not node %d: check --peers", t.options.Node, h.to)
	case h.from == t.options.Node && !probe:
		reason = fmt.Sprintf("two processes run as node %d: check --node-id", h.from)
	case own != "" && h.cluster != "" && own != h.cluster:
		code = 2
		reason = fmt.Sprintf("node %d belongs to cluster %s, node %d to cluster %s: one of them has another cluster's data directory or address", t.options.Node, own, h.from, h.cluster)
	}
	if reason != "" {
		answer := binary.BigEndian.AppendUint16([]byte{code}, uint16(len(reason)))
		c.SetWriteDeadline(time.Now().Add(helloTimeout))
		_, err := c.Write(append(answer, reason...))
		return 0, 0, errors.Join(errors.New(reason), err)
	}
	_, err = c.Write([]byte{0})
	return h.from, h.class, err
}

// refusal is why a peer does not take this node.
type refusal struct {
	reason  string
	foreign bool // the peer belongs to another cluster
}

func (r refusal) Error() string { return r.reason }

// sayHello sends a hello and reads what the other says to it.
func sayHello(c net.Conn, h hello) error {
	out := append([]byte(magic), version, byte(h.class))
	out = binary.BigEndian.AppendUint32(out, uint32(h.from))
	out = binary.BigEndian.AppendUint32(out, uint32(h.to))
	out = append(append(out, byte(len(h.cluster))), h.cluster...)
	if _, err := c.Write(out); err != nil {
		return err
	}
	var answer [3]byte
	if _, err := io.ReadFull(c, answer[:1]); err != nil {
		return err
	}
	if answer[0] == 0 {
		return nil
	}
	if _, err := io.ReadFull(c, answer[1:]); err != nil {
		return err
	}
	reason := make([]byte, binary.BigEndian.Uint16(answer[1:]))
	if _, err := io.ReadFull(c, reason); err != nil {
		return err
	}
	return refusal{string(reason), answer[0] == 2}
}
