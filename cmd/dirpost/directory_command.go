package main

import "github.com/spf13/cobra"

// directoryCommand is `dirpost directory`.
func directoryCommand(path *string, std streams) *cobra.Command {
	c := &cobra.Command{
		Use: "directory", Short: "Look at what the directory says, as mail sees it",
	}
	c.AddCommand(
		directoryCheckCommand(path, std), directoryStatusCommand(path, std), directorySyncCommand(path, std), directoryReleaseCommand(path, std),
		directoryDiffCommand(path, std), directorySimulateCommand(path, std))
	return c
}
