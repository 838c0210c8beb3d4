// Package deps pins modules while the packages that need them are being written.
package deps
import (
 _ "github.com/anishathalye/porcupine"
 _ "github.com/cockroachdb/datadriven"
 _ "github.com/klauspost/compress/zstd"
 _ "github.com/klauspost/compress/s2"
 _ "github.com/klauspost/compress/gzip"
 _ "github.com/pelletier/go-toml/v2"
 _ "github.com/pierrec/lz4/v4"
 _ "github.com/prometheus/client_golang/prometheus"
 _ "github.com/prometheus/client_golang/prometheus/promhttp"
 _ "github.com/prometheus/client_golang/prometheus/collectors"
 _ "github.com/spf13/cobra"
 _ "github.com/twmb/franz-go/pkg/kadm"
 _ "github.com/twmb/franz-go/pkg/kgo"
 _ "github.com/twmb/franz-go/pkg/kmsg"
 _ "go.etcd.io/raft/v3"
 _ "go.etcd.io/raft/v3/raftpb"
 _ "golang.org/x/sys/unix"
 _ "pgregory.net/rapid"
 _ "google.golang.org/protobuf/proto"
)
