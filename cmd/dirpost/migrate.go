package main

import (
	"fmt"

	"dirpost/internal/postgres"

	"github.com/spf13/cobra"
)

// migrateCommand is `dirpost migrate`.
func migrateCommand(path *string, std streams) *cobra.Command {
	plan := false
	c := &cobra.Command{
		Use: "migrate", Short: "Bring the database's schema up to this version",
		Long: `Migrate applies the migrations that are missing, in order, each in a transaction
of its own, and grants what the server's and the reading role need. It runs as
the owner of the schema (database.owner_url) while nodes go on serving; two that
run at once wait for each other.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := readConfig(*path)
			if err != nil {
				return err
			}
			if plan {
				return printPlan(c, f, std)
			}
			return postgres.Migrate(c.Context(), f.ownerURL(), f.databaseRoles(), newLogger(f.Log, std.err))
		},
	}
	c.Flags().BoolVar(&plan, "plan", false, "only say what would be done")
	return c
}

func printPlan(c *cobra.Command, f *File, std streams) error {
	todo, err := postgres.MigratePlan(c.Context(), f.ownerURL())
	if err != nil {
		return err
	}
	if len(todo) == 0 {
		fmt.Fprintln(std.out, "The schema is up to date.")
	}
	for _, m := range todo {
		what := "stop the nodes of the version before first"
		if m.Additive {
			what = "nodes of the version before go on working"
		}
		fmt.Fprintf(std.out, "would apply %s: %s\n", m.Name, what)
	}
	return nil
}

// ownerURL is how to connect as the owner of the schema.
func (f *File) ownerURL() string {
	if f.Database.OwnerURL != "" {
		return f.Database.OwnerURL
	}
	return f.Database.URL
}

// databaseRoles are those that migrations grant to.
func (f *File) databaseRoles() postgres.Roles {
	return postgres.Roles{Serve: f.Database.ServeRole, Read: f.Database.ReadRole}
}

// databaseConfig is the configuration of the pools.
func (f *File) databaseConfig() postgres.Config {
	return postgres.Config{
		URL: f.Database.URL, Interactive: f.Database.Interactive, Delivery: f.Database.Delivery, Background: f.Database.Background,
	}
}
