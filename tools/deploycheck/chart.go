package main

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"helm.sh/helm/v3/pkg/releaseutil"
)

// What charts are rendered for: a namespace, and the oldest Kubernetes that ours allows.
const (
	namespace  = "mail"
	kubernetes = "v1.30.0"
)

// chart lints a chart with some values, renders it, and returns its objects.
func chart(dir string, valueFiles []string) (any, error) {
	version, err := chartutil.ParseKubeVersion(kubernetes)
	if err != nil {
		return nil, err
	}
	values := chartutil.Values{}
	for _, f := range valueFiles {
		v, err := chartutil.ReadValuesFile(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		values = chartutil.MergeTables(v, values)
	}
	var errs []error
	for _, m := range lint.AllWithKubeVersion(dir, values, namespace, version).Messages {
		if m.Severity > support.InfoSev {
			errs = append(errs, fmt.Errorf("lint: %s", m))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	rendered, err := render(dir, values, version)
	if err != nil {
		return nil, err
	}
	var all objects
	for _, file := range slices.Sorted(maps.Keys(rendered)) {
		if base := path.Base(file); strings.HasPrefix(base, "_") || base == "NOTES.txt" {
			continue
		}
		for _, text := range releaseutil.SplitManifests(rendered[file]) {
			o, err := decode(text)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w\n%s", file, err, text))
				continue
			}
			all = append(all, o...)
		}
	}
	if err := errors.Join(append(errs, all.check()...)...); err != nil {
		return nil, err
	}
	raw := make([]map[string]any, len(all))
	for i, o := range all {
		raw[i] = o.raw
	}
	return raw, nil
}

// render is what `helm install` would send. A value that a template asks for and
// that nobody has given is an error.
func render(dir string, values chartutil.Values, version *chartutil.KubeVersion) (map[string]string, error) {
	c, err := loader.LoadDir(dir)
	if err != nil {
		return nil, err
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *version
	if k := c.Metadata.KubeVersion; k != "" && !chartutil.IsCompatibleRange(k, capabilities.KubeVersion.String()) {
		return nil, fmt.Errorf("kubeVersion %s leaves out %s", k, capabilities.KubeVersion.String())
	}
	v, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "mail", Namespace: namespace, Revision: 1, IsInstall: true}, capabilities)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.Render(c, v)
}
