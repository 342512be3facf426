package ldap

// openLDAPFilter takes whatever may have an address or carry rights. slapd
// answers "undefined" for a class that its schema lacks, so the filter fits
// any schema. Containers are in it for the news that one was renamed.
const openLDAPFilter = "(|(objectClass=inetOrgPerson)(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)" +
	"(objectClass=dirpostMailbox)(objectClass=dirpostList)(objectClass=inetLocalMailRecipient)(objectClass=mailRecipient)(objectClass=mailGroup)(objectClass=posixGroup)(objectClass=groupOfURLs)(objectClass=nisMailAlias)" +
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
			"max_receive":    {"delivContLength:kib"},
			"max_send":       {"submissionContLength:kib"},
			"forward":        {"targetAddress:smtp"},
			"place":          {"homeMDB:elsewhere", "msExchHomeServerName:elsewhere", "msExchMailboxGuid:elsewhere", "targetAddress:elsewhere"},
			"x500":           {"legacyExchangeDN", "proxyAddresses:x500"},
			"sid":            {"objectSid:sid"},
			"primary_group":  {"primaryGroupID:rid"},
			"member":         {"member"},
			"query":          {"msExchDynamicDLFilter:filter"},
			"query_base":     {"msExchDynamicDLBaseDN"},
			"list_policy":    {"msExchEnableModeration:moderated", "info:policy", "extensionName:policy", "msExchRequireAuthToSendTo:require-auth"},
			"owner":          {"managedBy", "msExchCoManagedByLink"},
			"moderator":      {"msExchModeratedByLink"},
			"list_sender":    {"msExchBypassModerationLink"},
			"list_allowed":   {"authOrig", "dLMemSubmitPerms"},
			"list_barred":    {"unauthOrig", "dLMemRejectPerms"},
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
		"member_login":    {"memberUid"},
		"query":           {"memberURL"},
		"list_policy":     {"dirpostListPolicy:policy", "businessCategory:policy"},
		"owner":           {"owner"},
		"moderator":       {"dirpostListModerator", "mgrpModerator", "listModerator"},
		"list_sender":     {"dirpostListSender"},
		"max_receive":     {"mgrpMsgMaxSize"},
		"sid":             {"sambaSID:sid"},
		"primary_group":   {"sambaPrimaryGroupSID:sid"},
		"access":          {"dirpostFullAccess"},
		"send_as":         {"dirpostSendAs"},
		"on_behalf":       {"dirpostSendOnBehalf"},
		"hidden":          {"dirpostHidden:bool"},
		"modified":        {"entryCSN:csn", "modifyTimestamp:time"},
	}
}
