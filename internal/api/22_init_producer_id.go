package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// InitProducerId: v0-5
//
// Behaviour:
//   - without a transactional id: a new producer id with epoch 0; an id and
//     epoch that the producer has are ignored, one without the other is
//     INVALID_REQUEST
//   - an empty transactional id: INVALID_REQUEST
//   - any other transactional id: TRANSACTIONAL_ID_AUTHORIZATION_FAILED. There
//     are no transactions here. The producer gives up at once, and the error
//     names what it may not have; COORDINATOR_NOT_AVAILABLE would have it try
//     for ever, and INVALID_REQUEST says nothing of the cause.
//
// Version notes: v2: flexible; v3: producer id and epoch (KIP-360); v4:
// PRODUCER_FENCED; v5: TRANSACTION_ABORTABLE.
//
// Not implemented: transactions; v6 (two-phase commit).
var initProducerID = Handler{Key: 22, Name: "InitProducerId", Min: 0, Max: 5, Serve: serveInitProducerID}

func serveInitProducerID(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.InitProducerIDRequest)
	answer := func(id kafka.ProducerID, code kafka.ErrorCode) {
		resp := kmsg.NewPtrInitProducerIDResponse()
		resp.Version = in.Version
		resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = int16(code), -1, -1
		if code == kafka.None {
			resp.ProducerID, resp.ProducerEpoch = int64(id), 0
		}
		reply.respond(resp)
	}
	idAlone := in.Version >= 3 && (in.ProducerID == -1) != (in.ProducerEpoch == -1)
	switch {
	case in.TransactionalID != nil && *in.TransactionalID == "", idAlone:
		answer(kafka.NoProducerID, kafka.ErrInvalidRequest)
	case in.TransactionalID != nil:
		answer(kafka.NoProducerID, kafka.ErrTransactionalIDAuthorizationFailed)
	default:
		s.Broker.NewProducerID(now, answer)
	}
}
