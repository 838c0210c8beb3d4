package soak

import (
	"context"
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"chronik/test/chaos/cluster"
)

var (
	minutes = flag.Float64("minutes", fromEnvironment("CHAOS_MINUTES"), "how long to harm a cluster (also CHAOS_MINUTES)")
	seed    = flag.Uint64("seed", uint64(fromEnvironment("CHAOS_SEED")), "the seed of the faults (also CHAOS_SEED); 0 draws one")
	faults  = flag.String("faults", os.Getenv("CHAOS_FAULTS"), "only these kinds of faults, with commas between them (also CHAOS_FAULTS)")
)

func fromEnvironment(name string) float64 {
	v, _ := strconv.ParseFloat(os.Getenv(name), 64) // not given is 0
	return v
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	cluster.RemoveBinary()
	os.Exit(code)
}

// TestSoak is `make chaos`.
func TestSoak(t *testing.T) {
	if *minutes == 0 {
		t.Skip("SKIP: `make chaos` runs this; CHAOS_MINUTES says for how long")
	}
	o := options{seed: *seed, length: time.Duration(*minutes * float64(time.Minute)), nodes: 3, logDir: keepLogs(t)}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano() % 1e9)
	}
	if *faults != "" {
		o.faults = strings.Split(*faults, ",")
	}
	t.Logf("%s CHAOS_SEED=%d CHAOS_MINUTES=%v", time.Now().Format("15:04:05.000"), o.seed, *minutes)
	r := setUp(t, o)
	r.began = time.Now()
	r.load = newWorkload(r)
	if err := r.load.start(context.Background()); err != nil {
		t.Fatal(err)
	}
	before := r.growth()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go r.supervise(ctx)
	r.awaitWell(ctx, recoveryMax)
	r.schedule(ctx)
	r.finish(ctx)
	r.compareGrowth(before)
	t.Log(r.report())
}
