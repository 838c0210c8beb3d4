package wire

import (
	"encoding/binary"
	"fmt"
)

// Header is what every request begins with.
type Header struct {
	Key           int16
	Version       int16
	CorrelationID int32
	// ClientID is the name that the client gives itself, "" for null. It is
	// a copy, and any bytes are allowed in it.
	ClientID string
	// ClientIDNull tells null from "".
	ClientIDNull bool
	// Body is the rest of the frame. It aliases the frame.
	Body []byte
}

// ParseHeader reads the header of a request frame (without its length). An
// unknown key returns ErrUnknownKey; versions are not checked here, because
// ApiVersions is answered at every version. Whatever was read before an error
// is in the Header that comes with it.
func ParseHeader(frame []byte) (Header, error) {
	var h Header
	err := h.Parse(frame)
	return h, err
}

// Parse is ParseHeader into h. If h holds the header of an earlier request of
// the same connection its ClientID is kept when it is the same, so that
// nothing is allocated.
func (h *Header) Parse(frame []byte) error {
	h.Key, h.Version, h.CorrelationID, h.ClientIDNull, h.Body = 0, 0, 0, false, nil
	if len(frame) < 8 {
		return fmt.Errorf("parse header of %d bytes: %w", len(frame), ErrMalformed)
	}
	h.Key = int16(binary.BigEndian.Uint16(frame))
	h.Version = int16(binary.BigEndian.Uint16(frame[2:]))
	h.CorrelationID = int32(binary.BigEndian.Uint32(frame[4:]))
	if _, _, ok := Versions(h.Key); !ok {
		return fmt.Errorf("parse header: key %d: %w", h.Key, ErrUnknownKey)
	}
	w := walker{rest: frame[8:], budget: headerTagsMax}
	if err := h.parseClientID(&w); err != nil {
		return fmt.Errorf("parse header: client id: %w", err)
	}
	if isFlexible(h.Key, h.Version) {
		if err := w.unknownTags(); err != nil {
			return fmt.Errorf("parse header: tags: %w", err)
		}
	}
	h.Body = w.rest
	return nil
}

// headerTagsMax bounds the tags of one header, in bytes of budget, so that
// nobody can make the reader of headers work for long.
const headerTagsMax = 1 << 20

func (h *Header) parseClientID(w *walker) error {
	if len(w.rest) < 2 {
		return errTruncated
	}
	n := int(int16(binary.BigEndian.Uint16(w.rest)))
	w.rest = w.rest[2:]
	if n < 0 {
		h.ClientID, h.ClientIDNull = "", true
		return nil
	}
	if n > len(w.rest) {
		return errTruncated
	}
	if string(w.rest[:n]) != h.ClientID {
		h.ClientID = string(w.rest[:n])
	}
	w.rest = w.rest[n:]
	return nil
}
