package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Sources is where Load looks, the strongest first.
type Sources struct {
	Flags   map[string]string // by flag name, as Setting.Flag gives it; only those given
	Environ []string          // as os.Environ gives it
	File    string            // path of a TOML file; "": the environment's CHRONIK_CONFIG, else none
}

// Error lists everything that is wrong with the settings, one problem each.
type Error struct{ Problems []string }

func (e *Error) Error() string { return strings.Join(e.Problems, "\n") }

func (e *Error) add(format string, args ...any) {
	e.Problems = append(e.Problems, fmt.Sprintf(format, args...))
}

// Default is the configuration of a node that was told nothing.
func Default() Config {
	c, err := Load(Sources{})
	if err != nil {
		panic(err) // a wrong default
	}
	return c
}

// Load reads every setting: from the flags, else from the environment, else
// from the file, else its default. The error is an *Error.
func Load(from Sources) (Config, error) {
	c := Config{sources: map[string]Source{}}
	wrong := &Error{}
	for i := range table {
		s := &table[i]
		if !s.kind.parse(s.Default, s.field(&c)) {
			panic(fmt.Sprintf("default %q of setting %s is wrong", s.Default, s.Name))
		}
	}

	environment := readEnvironment(from.Environ, wrong)
	path := from.File
	if path == "" {
		path = environment[envConfig]
	}
	delete(environment, envConfig)
	if path != "" {
		c.readFile(path, wrong)
	}
	for i := range table {
		s := &table[i]
		if text, given := environment[s.Env()]; given {
			c.set(s, text, FromEnvironment, "environment variable "+s.Env(), wrong)
			delete(environment, s.Env())
		}
		if text, given := from.Flags[s.Flag()]; given {
			c.set(s, text, FromFlag, "flag --"+s.Flag(), wrong)
		}
	}
	for _, name := range sortedKeys(environment) {
		wrong.add("environment variable %s is not a setting%s", name, suggest(name, (*Setting).Env))
	}
	for _, name := range sortedKeys(from.Flags) {
		if byFlag(name) == nil {
			wrong.add("flag --%s is not a setting%s", name, suggest(name, (*Setting).Flag))
		}
	}
	if len(wrong.Problems) == 0 {
		c.complete()
		c.check(wrong)
	}
	if len(wrong.Problems) > 0 {
		return c, wrong
	}
	return c, nil
}

func (c *Config) set(s *Setting, text string, source Source, where string, wrong *Error) {
	if !s.kind.parse(text, s.field(c)) {
		wrong.add("setting %s, %s: got %q, takes %s", s.Name, where, text, s.Takes())
		return
	}
	c.sources[s.Name] = source
}

const envConfig = envPrefix + "CONFIG"

// kubernetesService matches the variables that Kubernetes sets in every
// container for a service whose name begins with "chronik".
var kubernetesService = regexp.MustCompile(`^CHRONIK_(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

func readEnvironment(environ []string, wrong *Error) map[string]string {
	got := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, envPrefix) && !kubernetesService.MatchString(name) {
			got[name] = value
		}
	}
	return got
}

func (c *Config) readFile(path string, wrong *Error) {
	content, err := os.ReadFile(path)
	if err != nil {
		wrong.add("settings file: %v", err)
		return
	}
	var tree map[string]any
	if err := toml.Unmarshal(content, &tree); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, column := at.Position()
			wrong.add("settings file %s, line %d, column %d: %s%s", path, row, column, strings.TrimPrefix(at.Error(), "toml: "), quoteHint(at.Error()))
		} else {
			wrong.add("settings file %s: %s%s", path, strings.TrimPrefix(err.Error(), "toml: "), quoteHint(err.Error()))
		}
		return
	}
	values := map[string]string{}
	flatten("", tree, values)
	for i := range table {
		s := &table[i]
		if text, given := values[s.Name]; given {
			c.set(s, text, FromFile, "file "+path, wrong)
			delete(values, s.Name)
		}
	}
	for _, name := range sortedKeys(values) {
		wrong.add("settings file %s: %s is not a setting%s", path, name, suggest(name, func(s *Setting) string { return s.Name }))
	}
}

// quoteHint explains what TOML says where one name continues another, as
// max.connections.per.ip does max.connections.
func quoteHint(problem string) string {
	if strings.Contains(problem, "already") || strings.Contains(problem, "table") {
		return `; where one name continues another, put both in quotes: "max.connections" = 1000`
	}
	return ""
}

// flatten turns TOML's nested tables, which is how it reads a key with dots,
// back into names with dots, and values into text.
func flatten(prefix string, tree map[string]any, into map[string]string) {
	for key, value := range tree {
		name := prefix + key
		switch v := value.(type) {
		case map[string]any:
			flatten(name+".", v, into)
		case []any:
			parts := make([]string, len(v))
			for i, part := range v {
				parts[i] = fmt.Sprint(part)
			}
			into[name] = strings.Join(parts, ",")
		case float64:
			into[name] = strconv.FormatFloat(v, 'f', -1, 64)
		default:
			into[name] = fmt.Sprint(v)
		}
	}
}

// complete fills in what follows from other settings.
func (c *Config) complete() {
	if c.Source("peer") == FromDefault {
		for _, p := range c.Peers {
			if p.ID == c.NodeID {
				c.Peer = p.Address
			}
		}
	}
	if c.AdvertiseKafka == "" {
		c.AdvertiseKafka = named(c.Kafka)
	}
}

// AdvertisePeer is what the other nodes are told to connect to. A node that
// joins learns the host from its connection to the member, if it listens on
// every interface.
func (c *Config) AdvertisePeer() string {
	if c.Join != "" {
		return c.Peer
	}
	return named(c.Peer)
}

// everyInterface says that nobody can connect to the host.
func everyInterface(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// named is an address with the machine's name for a host that stands for every
// interface.
func named(address string) string {
	host, port, _ := net.SplitHostPort(address)
	if everyInterface(host) {
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	return net.JoinHostPort(host, port)
}

// check looks for settings that are right alone and wrong together.
func (c *Config) check(wrong *Error) {
	if c.Join != "" && len(c.Peers) > 0 {
		wrong.add("settings join and peers: got both, takes one of them: peers founds a cluster, join enters one that runs")
	}
	if len(c.Peers) > 0 {
		found := false
		for _, p := range c.Peers {
			found = found || p.ID == c.NodeID
			if host, _, _ := net.SplitHostPort(p.Address); everyInterface(host) {
				wrong.add("setting peers: got %q, which is every interface; takes an address at which the other nodes reach node %d (--peer says where it listens)", p.Address, p.ID)
			}
		}
		if !found {
			wrong.add("setting peers: got %q, which has no entry for this node; takes one that begins with %d@ (or another node-id)", c.Value("peers"), c.NodeID)
		}
	}
	atMost := func(low, high string, lowValue, highValue int64) {
		if lowValue > highValue {
			wrong.add("setting %s: got %q, takes at most the value of %s, which is %s", low, c.Value(low), high, c.Value(high))
		}
	}
	atMost("group.min.session.timeout.ms", "group.max.session.timeout.ms", int64(c.GroupSessionTimeoutMin), int64(c.GroupSessionTimeoutMax))
	atMost("group.consumer.heartbeat.interval.ms", "group.consumer.session.timeout.ms", int64(c.GroupConsumerHeartbeatInterval), int64(c.GroupConsumerSessionTimeout)-1)
	if c.GroupConsumerAssignmentInterval.Milliseconds() > 15000 {
		wrong.add("setting group.consumer.assignment.interval.ms: got %q, takes at most 15000", c.Value("group.consumer.assignment.interval.ms"))
	}
	if c.GroupConsumerAssignors == "" {
		wrong.add("setting group.consumer.assignors: got nothing, takes uniform, range, or both with a comma between them")
	}
	if 2*c.BrokerHeartbeatInterval > c.BrokerSessionTimeout {
		wrong.add("setting broker.heartbeat.interval.ms: got %q, takes at most half of broker.session.timeout.ms, which is %s",
			c.Value("broker.heartbeat.interval.ms"), c.Value("broker.session.timeout.ms"))
	}
	atMost("message.max.bytes", "socket.request.max.bytes", int64(c.MessageBytesMax), int64(c.RequestBytesMax))
	atMost("message.max.bytes", "log.segment.bytes", int64(c.MessageBytesMax), int64(c.LogSegmentBytes))
	atMost("log.cleaner.min.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", c.LogCompactionLagMinMs, c.LogCompactionLagMaxMs)
}

func byFlag(flag string) *Setting {
	for i := range table {
		if table[i].Flag() == flag {
			return &table[i]
		}
	}
	return nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
