package main

import (
	"context"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// compose loads compose files as `docker compose` does, and returns what they come
// to. Variables have the defaults that stand in the files.
func compose(ctx context.Context, files []string) (any, error) {
	o, err := cli.NewProjectOptions(files,
		cli.WithWorkingDirectory(filepath.Dir(files[0])), cli.WithDiscardEnvFile, cli.WithConsistency(true), cli.WithNormalization(true))
	if err != nil {
		return nil, err
	}
	p, err := o.LoadProject(ctx)
	if err != nil {
		return nil, err
	}
	return struct {
		Services types.Services
		Networks types.Networks
		Volumes  types.Volumes
		Secrets  types.Secrets
		Configs  types.Configs
	}{p.Services, p.Networks, p.Volumes, p.Secrets, p.Configs}, nil
}
