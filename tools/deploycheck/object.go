package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// An object is a manifest: as it stands there, and as the API server reads it.
type object struct {
	raw   map[string]any
	typed runtime.Object
}

// decode reads a manifest strictly: no unknown kind or field, no value of another
// type, no key twice, nothing missing that must be there. A text of comments has no
// object.
func decode(text string) (objects, error) {
	asJSON, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, err
	}
	if string(asJSON) == "null" {
		return nil, nil
	}
	known := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(known), monitoring.AddToScheme(known)); err != nil {
		return nil, err
	}
	o := object{}
	if err := json.Unmarshal(asJSON, &o.raw); err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	if o.typed, _, err = decoder.Decode(asJSON, nil, nil); err != nil {
		return nil, err
	}
	return objects{o}, errors.Join(missing(o.raw, reflect.TypeOf(o.typed), "")...)
}

// missing are the required fields that a value lacks. In the types of Kubernetes
// they are those that are written even when they are empty.
func missing(value any, t reflect.Type, at string) []error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var errs []error
	switch v := value.(type) {
	case []any:
		if t.Kind() == reflect.Slice {
			for i, e := range v {
				errs = append(errs, missing(e, t.Elem(), fmt.Sprintf("%s[%d]", at, i))...)
			}
		}
	case map[string]any:
		if t.Kind() == reflect.Map {
			for k, e := range v {
				errs = append(errs, missing(e, t.Elem(), at+"."+k)...)
			}
		}
		if t.Kind() != reflect.Struct {
			break
		}
		for i := range t.NumField() {
			f := t.Field(i)
			name, options, tagged := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" && tagged && f.Anonymous { // inline
				errs = append(errs, missing(v, f.Type, at)...)
				continue
			}
			e, ok := v[name]
			switch {
			case ok:
				errs = append(errs, missing(e, f.Type, at+"."+name)...)
			case name != "" && name != "-" && name != "metadata" && !strings.Contains(options, "omit"):
				errs = append(errs, fmt.Errorf("%s.%s is missing", at, name))
			}
		}
	}
	return errs
}
