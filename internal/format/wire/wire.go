// Package wire turns bytes of the Kafka protocol into requests and responses
// into bytes, behind a guard that hostile bytes do not pass.
//
// The way of a request: [Reader.Next] cuts a frame off a connection,
// [ParseHeader] reads who asks for what, [DecodeRequest] checks the body
// against the schema of its key and version ([Guard]) and only then hands it
// to kmsg, whose readers trust the counts that they find. [AppendResponse]
// writes the answer. Whatever returns an error here is answered the way Kafka
// does: by closing the connection.
//
// The formats are drawn in docs/formats/kafka-wire.md.
package wire

import "errors"

// The reasons for which bytes are refused. All of them mean that the rest of
// the connection cannot be read and that it is to be closed.
var (
	// ErrFrameLength marks a frame whose declared length is negative.
	ErrFrameLength = errors.New("frame length is negative")
	// ErrFrameTooLarge marks a frame above the limit of its Reader.
	ErrFrameTooLarge = errors.New("frame is larger than allowed")
	// ErrUnknownKey marks an API key that no request has.
	ErrUnknownKey = errors.New("unknown api key")
	// ErrUnknownVersion marks a version that the key does not have.
	ErrUnknownVersion = errors.New("unknown version of api key")
	// ErrMalformed marks a header or body that does not follow its schema.
	ErrMalformed = errors.New("malformed request")
	// ErrBudget marks a request that would take more memory decoded than
	// [Budget] grants to its size.
	ErrBudget = errors.New("request over its memory budget")
)

const apiVersionsKey = 18
