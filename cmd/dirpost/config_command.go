package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// configCommand is `dirpost config`.
func configCommand(path *string, std streams) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Show and check the configuration"}
	c.AddCommand(
		&cobra.Command{
			Use: "example", Short: "Print a configuration with every key explained", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := fmt.Fprint(std.out, exampleTOML)
				return err
			},
		},
		&cobra.Command{
			Use: "check", Short: "Check the configuration file, and say what is wrong",
			Long: `Check reads the file, the secrets and the certificates it refers to, and says what
is wrong, all of it. It connects to nothing; 'dirpost doctor' does.`,
			Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				f, err := readConfig(*path)
				if err != nil {
					return err
				}
				if err := f.checkFiles(); err != nil {
					return fmt.Errorf("%s: %w", *path, err)
				}
				_, err = fmt.Fprintf(std.out, "%s is good.\n", *path)
				return err
			},
		},
	)
	return c
}
