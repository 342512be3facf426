package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dirpost/directory"
	"dirpost/internal/bus"
	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
)

// directorySyncCommand is `dirpost directory sync`.
func directorySyncCommand(path *string, std streams) *cobra.Command {
	wait, profile := 10*time.Minute, ""
	c := &cobra.Command{
		Use: "sync [NAME]", Short: "Compare a directory with the replica now, from the start", Args: cobra.MaximumNArgs(1),
		Long: `Sync makes the node that feeds compare everything that a directory has with the
replica, all directories without a NAME, and waits for the end. Changes are seen
by themselves: it is for when you doubt that.

With preset = "auto" the way in which a directory is read is chosen once, by what it
is and holds, and stays. --profile auto chooses again; what would change by it shows
'dirpost directory simulate' beforehand, with the preset in a copy of the
configuration.`,
		RunE: func(c *cobra.Command, args []string) error {
			return withReplica(c.Context(), *path, std, func(ctx context.Context, _ *File, db *postgres.DB) error {
				pending := func(r *directory.Report) bool { return r.SyncAsked != nil }
				ask := directory.AskSync
				switch profile {
				case "":
				case "auto":
					ask = func(ctx context.Context, db *postgres.DB, name string) error {
						if err := directory.ForgetProfile(ctx, db, name); err != nil {
							return err
						}
						return directory.AskSync(ctx, db, name)
					}
				default:
					return fmt.Errorf("--profile %s: want auto; a profile of your choice is set by preset = %q in the configuration", profile, profile)
				}
				all, err := askFeeder(ctx, db, nameOf(args), wait, ask, pending)
				for _, r := range all {
					if pending(&r) {
						continue
					}
					fmt.Fprintf(std.out, "%s: compared, %d changes found\n", r.Name, r.Found)
					if chosen, err := (directory.Profiles{DB: db}).Profile(ctx, r.Name); err == nil && profile != "" && chosen.Name != "" {
						fmt.Fprintf(std.out, "%s: read as %s, since %s\n", r.Name, chosen.Name, chosen.Why)
					}
				}
				return err
			})
		},
	}
	c.Flags().DurationVar(&wait, "wait", wait, "how long to wait for the end")
	c.Flags().StringVar(&profile, "profile", profile, "auto: choose again how the directory is read")
	return c
}

// directoryReleaseCommand is `dirpost directory release`.
func directoryReleaseCommand(path *string, std streams) *cobra.Command {
	wait := time.Minute
	c := &cobra.Command{
		Use: "release [NAME]", Short: "Believe what is held back since too much would vanish at once", Args: cobra.MaximumNArgs(1),
		Long: `When too many entries of a directory would vanish or lose their address at once,
these stay as they were: 'dirpost directory status' lists them. Release believes the
directory, all directories without a NAME. Whoever is gone cannot log in from then
on; their mailboxes are kept for the time that mda.closed says.`,
		RunE: func(c *cobra.Command, args []string) error {
			return withReplica(c.Context(), *path, std, func(ctx context.Context, _ *File, db *postgres.DB) error {
				before, err := directory.Reports(ctx, db)
				if err != nil {
					return err
				}
				pending := func(r *directory.Report) bool { return r.ReleaseAsked != nil }
				all, err := askFeeder(ctx, db, nameOf(args), wait, directory.AskRelease, pending)
				for i, r := range all {
					if !pending(&r) {
						fmt.Fprintf(std.out, "%s: %d entries released\n", r.Name, heldBefore(before, all[i].Name))
					}
				}
				return err
			})
		},
	}
	c.Flags().DurationVar(&wait, "wait", wait, "how long to wait for the end")
	return c
}

func nameOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func heldBefore(all []directory.Report, name string) int64 {
	for _, r := range all {
		if r.Name == name {
			return r.Braked
		}
	}
	return 0
}

// askEvery is how often it is looked whether something is done.
const askEvery = 100 * time.Millisecond

// askFeeder asks the node that feeds for something, and waits until it is done. It
// returns the directories that were asked about, those where it is not done too.
func askFeeder(ctx context.Context, db *postgres.DB, name string, wait time.Duration,
	ask func(context.Context, *postgres.DB, string) error, pending func(*directory.Report) bool) ([]directory.Report, error) {
	node, err := directory.FeedingNode(ctx, db)
	if err != nil {
		return nil, err
	}
	if node == "" {
		return nil, errors.New("no node feeds the directories: start 'dirpost serve' with the role directory")
	}
	if err := ask(ctx, db, name); errors.Is(err, directory.ErrNoDirectory) {
		return nil, fmt.Errorf("no node feeds a directory %q: 'dirpost directory status' lists them", name)
	} else if err != nil {
		return nil, err
	}
	if err := bus.Send(ctx, db, directory.Topic, ""); err != nil {
		return nil, fmt.Errorf("tell the nodes: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	var all []directory.Report
	for {
		reports, err := directory.Reports(ctx, db)
		if err != nil && ctx.Err() == nil {
			return nil, err
		}
		if err == nil {
			all = all[:0]
			open := 0
			for _, r := range reports {
				if name != "" && r.Name != name {
					continue
				}
				if all = append(all, r); pending(&r) {
					open++
				}
			}
			if open == 0 {
				return all, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return all, fmt.Errorf("not done after %s: it goes on; 'dirpost directory status' says how the directory does", span(wait))
		}
	}
}
