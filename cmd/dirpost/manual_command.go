package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manualCommand is `dirpost manual DIR`, for whoever makes packages.
func manualCommand() *cobra.Command {
	return &cobra.Command{
		Use: "manual DIR", Short: "Write the manual pages into a directory", Hidden: true,
		Long: "Manual writes a page of section 1 for each command, made of the same text as --help.",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			date, err := sourceDate()
			if err != nil {
				return err
			}
			root := c.Root()
			root.DisableAutoGenTag = true // pages of the same source are the same
			h := &doc.GenManHeader{Title: "DIRPOST", Section: "1", Source: "dirpost", Manual: "Dirpost", Date: date}
			if err := doc.GenManTree(root, h, args[0]); err != nil {
				return fmt.Errorf("manual pages: %w", err)
			}
			return nil
		},
	}
}

// sourceDate is the date of the pages: that of the source where a build says so
// (SOURCE_DATE_EPOCH, reproducible-builds.org), else today.
func sourceDate() (*time.Time, error) {
	t := time.Now()
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		n, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("SOURCE_DATE_EPOCH: %q is no number of seconds", epoch)
		}
		t = time.Unix(n, 0)
	}
	t = t.UTC()
	return &t, nil
}
