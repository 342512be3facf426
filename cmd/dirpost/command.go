package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// defaultConfig is read unless --config or DIRPOST_CONFIG names another file.
const defaultConfig = "/etc/dirpost/dirpost.toml"

// newCommand returns the tree of commands.
func newCommand(std streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "dirpost",
		Short: "A company's mail server on its directory and PostgreSQL",
		Long: `Dirpost takes, keeps and hands out a company's mail: SMTP, submission, IMAP and
POP3 for the people of an LDAP directory or Active Directory, kept in PostgreSQL.

Start with 'dirpost demo': a complete system with a company in it, on this
machine, in a few seconds, leaving nothing behind.

For your own: 'dirpost setup' asks five questions, tries each answer, and makes a
server of them.`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	def := os.Getenv("DIRPOST_CONFIG")
	if def == "" {
		def = defaultConfig
	}
	path := root.PersistentFlags().StringP("config", "c", def, "configuration file; DIRPOST_CONFIG names another default")
	root.AddCommand(
		demoCommand(std),
		serveCommand(path, std),
		setupCommand(path, std),
		migrateCommand(path, std),
		configCommand(path, std),
		queueCommand(path, std),
		mailboxCommand(path, std),
		directoryCommand(path, std),
		authCommand(path, std),
		joinCommand(path, std),
		dkimCommand(path, std),
		dnsCommand(path, std),
		certCommand(path, std),
		explainCommand(path, std),
		doctorCommand(path, std),
		healthCommand(path, std),
		sendmailCommand(std),
		manualCommand(),
	)
	sayUsage(root)
	return root
}

// sayUsage makes complaints about arguments and flags of all commands below c say how
// the command is written.
func sayUsage(c *cobra.Command) {
	usage := func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w\nusage: %s\n'%s --help' says more", err, c.UseLine(), c.CommandPath())
	}
	c.SetFlagErrorFunc(usage)
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usage(c, err)
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		sayUsage(sub)
	}
}

// release is the version of a release, set by the linker (make VERSION=1.2.3).
var release string

// version is the version of the build: of the release, a tag, or the revision it
// was made of.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v, revision, modified := info.Main.Version, "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				modified = "+"
			}
		}
	}
	if v == "" || v == "(devel)" {
		v = "devel"
		if revision != "" {
			v += " " + revision + modified
		}
	}
	return v
}
