package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthCommand is `dirpost health`.
func healthCommand(path *string, std streams) *cobra.Command {
	var limit time.Duration
	c := &cobra.Command{
		Use: "health", Short: "Ask the node on this host whether it can serve",
		Long: `Health asks the node that serves on this host how it does, as a balancer asks
/healthz, and prints the answer. The exit status is 0 while it can serve and 1
when it cannot or does not answer: for health checks of containers, which have no
other program. 'dirpost doctor' says what is wrong.

It needs a listener with the protocol status, or one with http and tls = "off".`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := readConfig(*path)
			if err != nil {
				return err
			}
			url, err := f.healthURL()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), limit)
			defer cancel()
			return askHealth(ctx, url, std.out)
		},
	}
	c.Flags().DurationVar(&limit, "timeout", 5*time.Second, "how long to wait for the answer")
	return c
}

// healthURL is where the node of f says how it does, asked from its own host.
func (f *File) healthURL() (string, error) {
	for _, protocol := range []string{"status", "http"} {
		for _, l := range f.Listener {
			if l.Protocol != protocol || l.TLS == "implicit" {
				continue
			}
			host, port, err := net.SplitHostPort(l.Address)
			if err != nil {
				return "", fmt.Errorf("listener %s: %w", l.Address, err)
			}
			if host == "" || host == "0.0.0.0" || host == "::" {
				host = "localhost"
			}
			return "http://" + net.JoinHostPort(host, port) + "/healthz", nil
		}
	}
	return "", errors.New(`no listener says how the node does: add a [[listener]] with protocol = "status", such as the one in 'dirpost config example'`)
}

// maxHealth bounds what is read of an answer.
const maxHealth = 64 << 10

// askHealth prints the answer of /healthz; an error says that the node cannot serve.
func askHealth(ctx context.Context, url string, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// No proxy: the node is here.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("is 'dirpost serve' running here? %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxHealth))
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the node cannot serve: %s: %s", res.Status, strings.TrimSpace(string(body)))
	}
	_, err = fmt.Fprintln(w, strings.TrimSpace(string(body)))
	return err
}
