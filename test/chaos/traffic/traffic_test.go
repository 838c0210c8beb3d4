package traffic

import (
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/chaos/history"
)

func TestEveryByteOfAValueCounts(t *testing.T) {
	id := history.ID{Producer: 3, Seq: 9}
	v := Value(id, 40)
	if got, err := Identify(v); err != nil || got != id {
		t.Fatal(got, err)
	}
	for i := range v {
		v[i] ^= 4
		if got, err := Identify(v); err == nil {
			t.Errorf("byte %d changed and %v was accepted", i, got)
		}
		v[i] ^= 4
	}
}

// The loads and readers must find a sound broker sound, whoever made it.
func TestLoadsOnForeignBroker(t *testing.T) {
	address := os.Getenv("CHRONIK_CHAOS_KAFKA")
	if address == "" {
		t.Skip("CHRONIK_CHAOS_KAFKA names no broker to try the loads on")
	}
	client, err := kgo.NewClient(ClientOptions([]string{address})...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	topic := "traffic-" + time.Now().Format("150405.000000")
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 6, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	var h history.History
	o := LoadOptions{Topic: topic, Partitions: 6}
	idempotent, err := StartIdempotent([]string{address}, &h, o)
	if err != nil {
		t.Fatal(err)
	}
	raw := StartRaw([]string{address}, &h, o)
	if _, err := FirstAck([]string{address}, &h, topic, 0, 10*time.Second); err != nil {
		t.Error(err)
	}
	time.Sleep(2 * time.Second)
	if errs := append(idempotent.Stop(), raw.Stop()...); len(errs) > 0 {
		t.Error(errs)
	}
	final, err := ReadTopic([]string{address}, topic, 6)
	if err != nil {
		t.Fatal(err)
	}
	sends, reads := h.Snapshot()
	t.Logf("%d records sent, %d acknowledged", len(sends), h.AckedCount())
	if h.AckedCount() == 0 {
		t.Error("nothing was acknowledged")
	}
	for _, v := range history.Check(sends, reads, final, history.Promise{Once: true, Ordered: true}) {
		t.Error(v)
	}
}
