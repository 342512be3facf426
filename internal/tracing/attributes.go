package tracing

import (
	"fmt"
	"log/slog"

	common "go.opentelemetry.io/proto/otlp/common/v1"
)

// A class says for whom an attribute is.
type class int

const (
	hidden   class = iota // of no use in a trace, or not for it
	plain                 // about nobody
	personal              // about people, or what they wrote
)

// classes are the attributes of events that spans may have. What is not among them
// stays in the log.
var classes = map[string]class{
	"queue_id": plain, "session": plain, "list_queue_id": plain,
	"status": plain, "outcome": plain, "reason": plain, "code": plain, "dsn": plain,
	"protocol": plain, "door": plain, "mech": plain, "proof": plain, "how": plain, "tls": plain, "verb": plain,
	"size": plain, "nrcpt": plain, "queued": plain, "messages": plain, "commands": plain, "refused": plain,
	"retrieved": plain, "removed": plain, "changes": plain, "entries": plain, "version": plain, "directory": plain,

	"client": personal, "helo": personal, "user": personal, "authcid": personal, "authzid": personal, "person": personal, "actor": personal,
	"from": personal, "to": personal, "orig_to": personal, "list": personal, "relay": personal, "reply": personal, "err": personal,
}

// maxValue bounds a text, in octets.
const maxValue = 256

// attributes are those of attrs that may be sent.
func (t *Tracer) attributes(attrs []slog.Attr) []*common.KeyValue {
	out := make([]*common.KeyValue, 0, len(attrs)+1)
	for _, a := range attrs {
		c := classes[a.Key]
		if c == hidden || c == personal && !t.config.Personal {
			continue
		}
		if v := value(a.Value); v != nil {
			out = append(out, &common.KeyValue{Key: "dirpost." + a.Key, Value: v})
		}
	}
	return out
}

// value is v as OTLP has it; nil for what says nothing.
func value(v slog.Value) *common.AnyValue {
	switch v = v.Resolve(); v.Kind() {
	case slog.KindInt64:
		return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: v.Int64()}}
	case slog.KindBool:
		return &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: v.Bool()}}
	case slog.KindFloat64:
		return &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: v.Float64()}}
	case slog.KindAny:
		switch x := v.Any().(type) {
		case nil:
			return nil
		case error:
			return text(x.Error())
		default:
			return text(fmt.Sprint(x))
		}
	}
	return text(v.String())
}

func text(s string) *common.AnyValue {
	if s == "" {
		return nil
	}
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: shorten(s)}}
}

// find returns the text of an attribute, "" if there is none.
func find(attrs []slog.Attr, key string) string {
	for i := range attrs {
		if attrs[i].Key == key {
			return attrs[i].Value.Resolve().String()
		}
	}
	return ""
}
