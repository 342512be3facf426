// Package ldap holds the LDAP side of the schema as embedded files: the optional
// auxiliary schema for OpenLDAP, and Example Corp, the directory of the demo and
// of the tests, for OpenLDAP and for Active Directory.
package ldap
