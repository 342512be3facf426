package ldap

import (
	_ "embed" // the files below
	"strings"
)

// Schema is dirpost.schema, in the form of slapd.conf.
//
//go:embed dirpost.schema
var Schema string

// Base is the suffix of Example Corp.
const Base = "dc=corp,dc=example"

// ServiceDN is the mail server's own account in Example Corp.
const ServiceDN = "cn=dirpost,ou=services," + Base

//go:embed demo.ldif
var demo string

// Demo returns Example Corp as LDIF, with the hashes of the people's password
// and of the mail server's own filled in.
func Demo(passwordHash, serviceHash string) string {
	return strings.NewReplacer("@PASSWORD@", passwordHash, "@SERVICE_PASSWORD@", serviceHash).Replace(demo)
}
