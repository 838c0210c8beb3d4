package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/invariant"
)

// DecodeRequest reads the body of a request, after Guard has passed it. Bytes
// after the end of the body are ignored.
//
// Strings are copies. Byte fields alias body in Produce (the records),
// Envelope and PushTelemetry, so they are valid until the frame is released;
// in every other request they are the request's own.
func DecodeRequest(key, version int16, body []byte) (kmsg.Request, error) {
	if err := Guard(key, version, body); err != nil {
		return nil, err
	}
	if copiesBody(key) {
		body = bytes.Clone(body)
	}
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	if err := req.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("decode request: key %d version %d: %w: %w", key, version, ErrMalformed, err)
	}
	return req, nil
}

// copiesBody says whether the request has byte fields that handlers keep
// beyond their answer: metadata and assignments of members, secrets.
func copiesBody(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.JoinGroup, kmsg.SyncGroup, kmsg.SASLAuthenticate,
		kmsg.RenewDelegationToken, kmsg.ExpireDelegationToken,
		kmsg.AlterUserSCRAMCredentials:
		return true
	}
	return false
}

// AppendResponse appends the frame that answers the request correlationID:
// length, response header and resp at the version set in it.
func AppendResponse(dst []byte, correlationID int32, resp kmsg.Response) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(correlationID))
	if FlexibleResponseHeader(resp) {
		dst = append(dst, 0) // no tags
	}
	return setLength(resp.AppendTo(dst), start)
}

// FlexibleResponseHeader says whether resp follows a header with tags (v1).
// The answer to ApiVersions never does: the client may not know the version
// that it is answered in.
func FlexibleResponseHeader(resp kmsg.Response) bool {
	return resp.IsFlexible() && resp.Key() != apiVersionsKey
}

// AppendRequest appends the frame of a request at the version set in it, as
// a client sends it. A nil clientID is sent as null.
func AppendRequest(dst []byte, correlationID int32, clientID *string, req kmsg.Request) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(req.Key()))
	dst = binary.BigEndian.AppendUint16(dst, uint16(req.GetVersion()))
	dst = binary.BigEndian.AppendUint32(dst, uint32(correlationID))
	if clientID == nil {
		dst = append(dst, 0xff, 0xff)
	} else {
		invariant.Check(len(*clientID) <= math.MaxInt16, "sends a client id that its length field cannot hold")
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(*clientID)))
		dst = append(dst, *clientID...)
	}
	if req.IsFlexible() {
		dst = append(dst, 0) // no tags
	}
	return setLength(req.AppendTo(dst), start)
}

// DecodeResponse reads a response frame (without its length) to a request of
// that key and version. It is for bytes of a broker that is trusted: nothing
// guards kmsg here.
func DecodeResponse(key, version int16, frame []byte) (correlationID int32, _ kmsg.Response, _ error) {
	resp := kmsg.ResponseForKey(key)
	if resp == nil {
		return 0, nil, fmt.Errorf("decode response: key %d: %w", key, ErrUnknownKey)
	}
	if len(frame) < 4 {
		return 0, nil, fmt.Errorf("decode response of %d bytes: %w", len(frame), ErrMalformed)
	}
	correlationID = int32(binary.BigEndian.Uint32(frame))
	frame = frame[4:]
	resp.SetVersion(version)
	if FlexibleResponseHeader(resp) {
		w := walker{rest: frame, budget: headerTagsMax}
		if err := w.unknownTags(); err != nil {
			return correlationID, nil, fmt.Errorf("decode response: header tags: %w", err)
		}
		frame = w.rest
	}
	if err := resp.ReadFrom(frame); err != nil {
		return correlationID, nil, fmt.Errorf("decode response: key %d version %d: %w", key, version, err)
	}
	return correlationID, resp, nil
}

func setLength(dst []byte, start int) []byte {
	n := len(dst) - start - lengthBytes
	checkFrame(n)
	binary.BigEndian.PutUint32(dst[start:], uint32(n))
	return dst
}

func checkFrame(size int) {
	invariant.Check(size <= math.MaxInt32, "sends a frame that its length field cannot hold")
}
