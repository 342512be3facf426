package main

import "github.com/spf13/cobra"

// authCommand is `dirpost auth`.
func authCommand(path *string, std streams) *cobra.Command {
	c := &cobra.Command{
		Use: "auth", Short: "Look at logins",
	}
	c.AddCommand(
		secondFactorCommand(path, std),
		authTestCommand(path, std),
		authTopCommand(path, std),
		authUnblockCommand(path, std),
		appPasswordCommand(path, std),
		authTokenCommand(path, std),
		authCertificateCommand(path, std),
	)
	return c
}
