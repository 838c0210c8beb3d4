package transport

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"chronik/internal/base/kafka"
)

// probeBytesMax bounds a question and its answer.
const probeBytesMax = 1 << 20

// Probe asks the node at address one question, without being its peer. It
// also returns the address from which the node was reached.
func Probe(ctx context.Context, address string, from kafka.NodeID, cluster string, question []byte) (answer []byte, local net.Addr, err error) {
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	c.SetDeadline(time.Now().Add(helloTimeout))
	if err := sayHello(c, hello{class: classProbe, from: from, to: anyNode, cluster: cluster}); err != nil {
		return nil, nil, err
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(question))), question...)); err != nil {
		return nil, nil, err
	}
	r := newFrameReader(c)
	r.most = probeBytesMax
	frame, err := r.next()
	if err != nil {
		return nil, nil, fmt.Errorf("read answer: %w", err)
	}
	return append([]byte(nil), frame...), c.LocalAddr(), nil
}

// answer serves one probe.
func (t *Transport) answer(c net.Conn, r *frameReader, from kafka.NodeID) {
	r.most = probeBytesMax
	question, err := r.next()
	if err != nil {
		return
	}
	answer := t.options.Answer(from, question)
	c.SetWriteDeadline(time.Now().Add(helloTimeout))
	c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)) //nolint:errcheck // the asker asks again
}
