package api

import (
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// control has the active controller decide a request that wants an R. The
// code says why there is none.
func control[R controller.Response](s *Server, now time.Time, req controller.Request, timeout time.Duration, done func(R, kafka.ErrorCode)) {
	if timeout <= 0 {
		timeout = s.Limits.controlWait()
	}
	timeout = min(timeout, clientWaitMax)
	s.Broker.Control(now, req, timeout, func(resp controller.Response, code kafka.ErrorCode) {
		r, ok := resp.(R)
		if !ok && code == kafka.None {
			code = kafka.ErrUnknownServerError
		}
		done(r, code)
	})
}

// configValues are configs to be set as requests hold them.
func configValues[C any](in []C, of func(*C) (string, *string)) []controller.ConfigValue {
	out := make([]controller.ConfigValue, len(in))
	for i := range in {
		out[i].Name, out[i].Value = of(&in[i])
	}
	return out
}
