package api

import (
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
)

// DescribeConfigs: v1-4
//
// Behaviour:
//   - a list of names that is null or empty asks for all; unknown names are
//     left out
//   - a broker answers for itself and, by the name "", for the defaults of all
//     brokers; any other is INVALID_REQUEST
//   - groups and client metrics subscriptions have their defaults, known or not
//   - broker loggers have no configs here
//   - without an error, the message is empty and not null
//   - once the answer is larger than a broker should have in memory, the
//     resources that are left are INVALID_REQUEST
//
// Version notes: v1: sources and synonyms; v3: types and documentation; v4:
// flexible.
var describeConfigs = Handler{Key: 32, Name: "DescribeConfigs", Min: 1, Max: 4, Serve: serveDescribeConfigs}

func serveDescribeConfigs(s *Server, _ time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.DescribeConfigsRequest)
	resp := kmsg.NewPtrDescribeConfigsResponse()
	resp.Version = in.Version
	image := s.Broker.Image()
	room := s.Limits.configsBytesMax()
	tooMuch := fmt.Sprintf("the answer would be larger than %d bytes: ask for fewer resources, or fewer configs, at a time", room)
	for i := range in.Resources {
		r := &in.Resources[i]
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		if room <= 0 {
			out.ErrorCode, out.ErrorMessage = int16(kafka.ErrInvalidRequest), &tooMuch
			resp.Resources = append(resp.Resources, out)
			continue
		}
		entries, code, message := s.describeConfigs(image, metadata.ResourceType(r.ResourceType), r.ResourceName)
		out.ErrorCode, out.ErrorMessage = int16(code), &message
		wanted := make(map[string]bool, len(r.ConfigNames))
		for _, name := range r.ConfigNames {
			wanted[name] = true
		}
		for j := range entries {
			if len(wanted) == 0 || wanted[entries[j].Name] {
				entry := configEntry(&entries[j], in)
				room -= configBytes(&entry)
				out.Configs = append(out.Configs, entry)
			}
		}
		resp.Resources = append(resp.Resources, out)
	}
	reply.respond(resp)
}

func (s *Server) describeConfigs(image *metadata.Image, kind metadata.ResourceType, name string) ([]config.Entry, kafka.ErrorCode, string) {
	settings := s.Broker.Settings()
	own := strconv.Itoa(int(s.Broker.Node()))
	switch kind {
	case metadata.ResourceTopic:
		if err := kafka.ValidTopicName(name); err != nil {
			return nil, kafka.ErrInvalidTopicException, err.Error()
		}
		if image.TopicByName(name) == nil {
			return nil, kafka.ErrUnknownTopicOrPartition, ""
		}
		return settings.DescribeTopic(image, name), kafka.None, ""
	case metadata.ResourceBroker:
		switch name {
		case "":
			return settings.DescribeClusterDefault(image), kafka.None, ""
		case own:
			return settings.DescribeBroker(image), kafka.None, ""
		}
		return nil, kafka.ErrInvalidRequest, "this is broker " + own + "; ask the broker itself for its configs"
	case metadata.ResourceBrokerLogger:
		if name != own {
			return nil, kafka.ErrInvalidRequest, "this is broker " + own + "; ask the broker itself for its loggers"
		}
		return nil, kafka.None, ""
	case metadata.ResourceGroup, metadata.ResourceClientMetrics:
		if name == "" {
			return nil, kafka.ErrInvalidRequest, "the name of the resource is empty"
		}
		if kind == metadata.ResourceGroup {
			return settings.DescribeGroup(image, name), kafka.None, ""
		}
		return settings.DescribeClientMetrics(image, name), kafka.None, ""
	}
	return nil, kafka.ErrInvalidRequest, "resources of this type have no configs"
}

func configEntry(e *config.Entry, in *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	out := kmsg.NewDescribeConfigsResponseResourceConfig()
	out.Name, out.Value, out.ReadOnly, out.IsSensitive = e.Name, e.Value, e.ReadOnly, e.Sensitive
	out.Source, out.ConfigType = kmsg.ConfigSource(e.Source), kmsg.ConfigType(e.Type)
	if e.Sensitive {
		out.Value = nil
	}
	if in.IncludeDocumentation {
		out.Documentation = text(e.Doc)
	}
	if in.IncludeSynonyms {
		for _, syn := range e.Synonyms {
			so := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			so.Name, so.Value, so.Source = syn.Name, syn.Value, kmsg.ConfigSource(syn.Source)
			if e.Sensitive {
				so.Value = nil
			}
			out.ConfigSynonyms = append(out.ConfigSynonyms, so)
		}
	}
	return out
}

// configBytes is about what an entry takes in an answer.
func configBytes(e *kmsg.DescribeConfigsResponseResourceConfig) int {
	size := 32 + len(e.Name) + len(str(e.Value)) + len(str(e.Documentation))
	for i := range e.ConfigSynonyms {
		size += 8 + len(e.ConfigSynonyms[i].Name) + len(str(e.ConfigSynonyms[i].Value))
	}
	return size
}
