package ldap

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Fields are the logical fields that Config.Mapping may name, with what they
// mean and how several sources count.
func Fields() map[string]string {
	return map[string]string{
		"id":              "what names the entry for ever; first",
		"kind":            "personal, shared, room, equipment, contact, elsewhere; first, else by objectClass",
		"name":            "name shown to people; first",
		"primary":         "primary address; first",
		"alias":           "further addresses; all",
		"login":           "login names besides the primary address; all",
		"login_state":     "active, disabled, expired, locked, must-change; the first that is not active",
		"expires":         "end of the account; first",
		"delivery_state":  "active, disabled, held; the first that is not active",
		"quota":           "octets above which nothing is received; first",
		"quota_send":      "octets above which nothing may be sent; first",
		"quota_warn":      "octets above which a warning is sent; first",
		"forward":         "addresses that the mail goes to; first source that has any",
		"keep_copy":       "with forward: deliver as well; first",
		"next_hop":        "host[:port] that holds the mailbox elsewhere; first",
		"service":         "protocols allowed; all",
		"member":          "DNs of members; all",
		"external_member": "addresses of members; all",
		"list_policy":     "open, internal, members, owners, moderated; first",
		"owner":           "DNs of owners and moderators; all",
		"list_sender":     "DNs that may send to the list in any case; all",
		"access":          "DNs that may open the mailbox; all",
		"send_as":         "DNs that may send as it; all",
		"on_behalf":       "DNs that may send on its behalf; all",
		"hidden":          "not in the address book; first",
		"domain":          "mail domains that the entry makes ours; all",
		"modified":        "time of the last change, as fine as there is; the latest",
	}
}

// openLDAPFilter takes whatever may have an address or carry rights. slapd
// answers "undefined" for a class that its schema lacks, so the filter fits
// any schema. Containers are in it for the news that one was renamed.
const openLDAPFilter = "(|(objectClass=inetOrgPerson)(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)" +
	"(objectClass=dirpostMailbox)(objectClass=dirpostList)(objectClass=inetLocalMailRecipient)(objectClass=mailRecipient)(objectClass=mailGroup)" +
	"(objectClass=organizationalUnit)(objectClass=organization)(objectClass=locality)(objectClass=country))"

// adFilter takes people, groups and contacts, and no computers.
const adFilter = "(|(&(objectCategory=person)(objectClass=user))(objectClass=group)(objectClass=contact))"

// presets is where the logical fields come from when the configuration says
// nothing. Attributes that a server does not have cost nothing.
func presets(name string) map[string][]string {
	if name == PresetAD {
		return map[string][]string{
			"id":             {"objectGUID:guid"},
			"kind":           {"msExchRecipientTypeDetails:exchange-kind"},
			"name":           {"displayName", "cn"},
			"primary":        {"proxyAddresses:smtp-primary", "mail"},
			"alias":          {"proxyAddresses:smtp", "mail"},
			"login":          {"userPrincipalName", "sAMAccountName", "sAMAccountName:netbios", "sAMAccountName:implicit-upn"},
			"login_state":    {"userAccountControl:uac", "pwdLastSet:must-change"},
			"expires":        {"accountExpires:filetime"},
			"quota":          {"mDBOverHardQuotaLimit:kib"},
			"quota_send":     {"mDBOverQuotaLimit:kib"},
			"quota_warn":     {"mDBStorageQuota:kib"},
			"forward":        {"targetAddress:smtp"},
			"member":         {"member"},
			"list_policy":    {"info:policy", "extensionName:policy"},
			"owner":          {"managedBy", "msExchCoManagedByLink", "msExchModeratedByLink"},
			"on_behalf":      {"publicDelegates"},
			"hidden":         {"msExchHideFromAddressLists:bool"},
			"modified":       {"whenChanged:time", "pwdLastSet:filetime"},
			"delivery_state": {},
		}
	}
	return map[string][]string{
		"id":              {"entryUUID:uuid", "nsUniqueId:uuid", "ipaUniqueID:uuid"},
		"kind":            {"dirpostMailboxKind"},
		"name":            {"displayName", "cn"},
		"primary":         {"dirpostAddress", "mailPrimaryAddress", "mail", "mailLocalAddress"},
		"alias":           {"dirpostAlias", "mail", "mailAlternateAddress", "mailAlternativeAddress", "mailLocalAddress"},
		"login":           {"uid", "mail", "krbPrincipalName"},
		"login_state":     {"dirpostEnabled:enabled-login", "pwdAccountLockedTime:locked-time", "nsAccountLock:locked", "accountStatus:account-status"},
		"expires":         {"shadowExpire:days"},
		"delivery_state":  {"dirpostEnabled:enabled-delivery", "mailEnabled:enabled-flag"},
		"quota":           {"dirpostQuotaBytes", "mailQuotaSize"},
		"quota_send":      {"dirpostQuotaSendBytes"},
		"quota_warn":      {"dirpostQuotaWarnBytes"},
		"forward":         {"dirpostForward", "mailForwardingAddress", "mailRoutingAddress"},
		"keep_copy":       {"dirpostForwardKeepCopy:bool", "deliveryMode:delivery-mode"},
		"next_hop":        {"dirpostNextHop"},
		"service":         {"dirpostService"},
		"member":          {"member", "uniqueMember:unique-member"},
		"external_member": {"dirpostListExternalMember", "rfc822MailMember", "mgrpRFC822MailMember"},
		"list_policy":     {"dirpostListPolicy:policy", "businessCategory:policy"},
		"owner":           {"owner", "dirpostListModerator"},
		"list_sender":     {"dirpostListSender"},
		"access":          {"dirpostFullAccess"},
		"send_as":         {"dirpostSendAs"},
		"on_behalf":       {"dirpostSendOnBehalf"},
		"hidden":          {"dirpostHidden:bool"},
		"modified":        {"entryCSN:csn", "modifyTimestamp:time"},
	}
}

// source is one attribute and how its values are read.
type source struct {
	attribute string // lower case
	decode    decoder
}

// mapper turns LDAP entries into entries as mail sees them.
type mapper struct {
	directory string
	netbios   string // DOMAIN of DOMAIN\user
	dnsDomain string // of the base DN, for implicit UPNs
	aliases   bool   // log in with further addresses

	fields     map[string][]source
	attributes []string // to ask for
}

// newMapper compiles the mapping of a configuration.
func newMapper(cfg Config) (*mapper, error) {
	m := &mapper{
		directory: cfg.Name,
		netbios:   cfg.Domain,
		dnsDomain: dnsDomain(cfg.Base),
		aliases:   cfg.AliasLogins,
		fields:    map[string][]source{},
	}
	texts := presets(cfg.Preset)
	known := Fields()
	var errs []error
	for field, sources := range cfg.Mapping {
		if _, ok := known[field]; !ok {
			errs = append(errs, fmt.Errorf("mapping: no field %q; there are %s", field, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
			continue
		}
		texts[field] = sources
	}
	ask := map[string]struct{}{"objectClass": {}}
	all := m.decoders()
	for field, sources := range texts {
		for _, text := range sources {
			attribute, name, _ := strings.Cut(text, ":")
			decode, ok := all[name]
			if !ok || attribute == "" {
				errs = append(errs, fmt.Errorf("mapping: %s: %q: want attribute or attribute:decoder with one of %s", field, text, strings.Join(slices.Sorted(maps.Keys(all)), " ")))
				continue
			}
			ask[attribute] = struct{}{}
			m.fields[field] = append(m.fields[field], source{strings.ToLower(attribute), decode})
		}
	}
	m.attributes = slices.Sorted(maps.Keys(ask))
	return m, errors.Join(errs...)
}

// dnsDomain returns corp.example for DC=corp,DC=example.
func dnsDomain(base string) string {
	var labels []string
	for _, rdn := range strings.Split(base, ",") {
		if typ, value, ok := strings.Cut(strings.TrimSpace(rdn), "="); ok && strings.EqualFold(typ, "dc") {
			labels = append(labels, value)
		}
	}
	return strings.ToLower(strings.Join(labels, "."))
}
