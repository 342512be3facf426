// Deploycheck reads the recipes below deploy/ with the parsers of the programs that
// will read them, says all that is wrong, and prints what they come to, as JSON:
//
//	deploycheck chart DIR [VALUES]   a Helm chart: linted, rendered, its objects decoded strictly
//	deploycheck compose FILE...      a compose file with those that change it
//	deploycheck image FILE           a Dockerfile: linted, and the settings of its image
//
// It needs no network, no cluster and no engine. The exit status is 0 when nothing
// is wrong, else 1, with one complaint a line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: deploycheck chart DIR [VALUES] | compose FILE... | image FILE")
	}
	var result any
	var err error
	switch args[0] {
	case "chart":
		result, err = chart(args[1], args[2:])
	case "compose":
		result, err = compose(ctx, args[1:])
	case "image":
		result, err = image(ctx, args[1])
	default:
		err = fmt.Errorf("there is no check of a %s", args[0])
	}
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	return out.Encode(result)
}
