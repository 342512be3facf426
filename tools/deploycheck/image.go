package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// image translates a Dockerfile as BuildKit does, and returns the configuration of
// the image that its last stage makes.
func image(ctx context.Context, path string) (any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	source := llb.NewSourceMap(nil, path, "Dockerfile", text)
	source.Definition = new(llb.Definition) // no build asks for the source
	opt := dockerfile2llb.ConvertOpt{MetaResolver: noRegistry{}, SourceMap: source}
	found, err := dockerfile2llb.DockerfileLint(ctx, text, opt)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var errs []error
	if found.Error != nil {
		errs = append(errs, fmt.Errorf("%s: %s", path, found.Error.Message))
	}
	for _, w := range found.Warnings {
		errs = append(errs, fmt.Errorf("%s: %s: %s", path, w.RuleName, strings.TrimSpace(w.Detail)))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	made, err := dockerfile2llb.Dockerfile2LLB(ctx, text, opt)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return made.Image.Config, nil
}

// noRegistry takes every base image for one that sets nothing.
type noRegistry struct{}

// ResolveImageConfig implements llb.ImageMetaResolver.
func (noRegistry) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	b, err := json.Marshal(ocispecs.Image{Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"}})
	return ref, digest.FromBytes(b), b, err
}
