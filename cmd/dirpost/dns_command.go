package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"dirpost/internal/resolver"

	"github.com/spf13/cobra"
)

// dnsCommand is `dirpost dns`.
func dnsCommand(path *string, std streams) *cobra.Command {
	c := &cobra.Command{Use: "dns", Short: "Show and check the DNS records that mail needs"}
	var addresses []string
	var asTable, asJSON bool
	records := &cobra.Command{
		Use: "records", Short: "Print the records to publish, as lines of a zone file", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, all, err := recordsFor(c.Context(), *path, addresses, std)
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				return printJSON(std.out, all)
			case asTable:
				return printTable(std.out, all)
			}
			printZone(std.out, all, len(addresses))
			return nil
		},
	}
	records.Flags().StringSliceVar(&addresses, "address", nil, "public IP address of this server, for A, AAAA and PTR; may be given several times")
	records.Flags().BoolVar(&asTable, "table", false, "as a table, with the reason for each")
	records.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	c.AddCommand(records, dnsCheckCommand(path, std))
	return c
}

// dnsCheckCommand is `dirpost dns check`.
func dnsCheckCommand(path *string, std streams) *cobra.Command {
	var addresses, inside, outside []string
	asJSON := false
	c := &cobra.Command{
		Use: "check", Short: "Compare the records with what the DNS says",
		Long: `Check asks the DNS for every record of 'dirpost dns records' and says what is missing
or wrong, and what to publish. It asks a resolver inside, that of the configuration
or of the system, and one outside if there is one: mta.outside_resolvers or
--outside. Where the house has a DNS of its own they differ, and both must be right.

The exit status is 0 when all is well, 1 when something required is not, 2 when
something recommended is not.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			code, err := runDNSCheck(c.Context(), *path, addresses, inside, outside, asJSON, std)
			if err == nil && code != 0 {
				err = code
			}
			return err
		},
	}
	c.Flags().StringSliceVar(&addresses, "address", nil, "public IP address of this server; without it those that the DNS has for its name")
	c.Flags().StringSliceVar(&inside, "inside", nil, "resolver inside, IP or IP:PORT")
	c.Flags().StringSliceVar(&outside, "outside", nil, "resolver outside, IP or IP:PORT")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

// recordsFor are the records of the configuration at path.
func recordsFor(ctx context.Context, path string, addresses []string, std streams) (*File, []dnsRecord, error) {
	file, err := readConfig(path)
	if err != nil {
		return nil, nil, err
	}
	var ips []netip.Addr
	for _, a := range addresses {
		ip, err := netip.ParseAddr(a)
		if err != nil {
			return nil, nil, fmt.Errorf("--address %s: is no IP address", a)
		}
		ips = append(ips, ip.Unmap())
	}
	db, err := openDatabase(ctx, file, newLogger(file.Log, std.err))
	if err != nil {
		return nil, nil, err
	}
	defer db.Close()
	all, err := dnsRecords(ctx, file, db, ips)
	return file, all, err
}

func runDNSCheck(ctx context.Context, path string, addresses, inside, outside []string, asJSON bool, std streams) (exitCode, error) {
	file, err := readConfig(path)
	if err != nil {
		return 0, err
	}
	in, out, err := file.resolvers(inside, outside)
	if err != nil {
		return 0, err
	}
	if len(addresses) == 0 {
		a, err := cmp.Or(out, in).Addresses(ctx, file.Server.Name)
		if errors.Is(err, resolver.ErrUnavailable) {
			return 0, fmt.Errorf("the DNS does not answer: %w", err)
		}
		for _, ip := range a.Records { // none is a finding
			addresses = append(addresses, ip.String())
		}
	}
	_, all, err := recordsFor(ctx, path, addresses, std)
	if err != nil {
		return 0, err
	}
	if len(addresses) == 0 {
		all = append([]dnsRecord{{Name: file.Server.Name + ".", Type: "A", Data: "(the server's public address)", Need: required, Why: "where the server is"}}, all...)
	}
	if out == nil && !asJSON {
		fmt.Fprintln(std.out, "Asked inside only: --outside IP, or mta.outside_resolvers, names a resolver that sees what the world sees.")
	}
	return reportDNS(std.out, checkDNS(ctx, file.Server.Name, all, in, out), asJSON)
}
