package ldap

// adFilter takes people, groups and contacts, and no computers.
const adFilter = "(|(&(objectCategory=person)(objectClass=user))(objectClass=group)(objectClass=contact))"

// profileAD is Active Directory as Windows and Samba ship it. info and
// extensionName are asked of groups only, whose members cannot write them.
var profileAD = &profile{
	name: PresetAD, title: "Active Directory", ad: true, filter: adFilter,
	fields: map[string][]string{
		"id":            {"objectGUID:guid"},
		"name":          {"displayName", "cn"},
		"primary":       {"proxyAddresses:smtp-primary", "mail"},
		"alias":         {"proxyAddresses:smtp", "mail"},
		"x500":          {"legacyExchangeDN", "proxyAddresses:x500"},
		"login":         {"userPrincipalName", "sAMAccountName", "sAMAccountName:netbios", "sAMAccountName:implicit-upn"},
		"login_state":   {"userAccountControl:uac", "pwdLastSet:must-change", "lockoutTime:lockout"},
		"expires":       {"accountExpires:filetime"},
		"member":        {"member"},
		"list_policy":   {"info:policy", "extensionName:policy"},
		"owner":         {"managedBy"},
		"sid":           {"objectSid:sid"},
		"certificate":   {"altSecurityIdentities:certificate-mapping"},
		"primary_group": {"primaryGroupID:rid"},
		"modified":      {"whenChanged:time", "pwdLastSet:filetime"},
	},
}

// profileADExchange is Active Directory with the schema of Exchange.
var profileADExchange = &profile{
	name: PresetADExchange, title: "Active Directory with Exchange", ad: true, below: profileAD,
	filter: "(|(&(objectCategory=person)(objectClass=user))(objectClass=group)(objectClass=contact)(objectClass=msExchDynamicDistributionList))",
	marks:  []mark{{"msExchRecipientTypeDetails", "1.2.840.113556."}, {"homeMDB", "1.2.840.113556."}, {"mDBOverHardQuotaLimit", "1.2.840.113556."}},
	fields: map[string][]string{
		"kind":          {"msExchRecipientTypeDetails:exchange-kind"},
		"place":         {"homeMDB:elsewhere", "msExchHomeServerName:elsewhere", "msExchMailboxGuid:elsewhere", "targetAddress:elsewhere"},
		"service_off":   {"protocolSettings:protocol-settings"},
		"quota":         {"mDBOverHardQuotaLimit:kib"},
		"quota_send":    {"mDBOverQuotaLimit:kib"},
		"quota_warn":    {"mDBStorageQuota:kib"},
		"quota_default": {"mDBUseDefaults:bool"},
		"max_receive":   {"delivContLength:kib"},
		"max_send":      {"submissionContLength:kib"},
		"forward":       {"targetAddress:smtp"},
		"forward_to":    {"altRecipient"},
		"keep_copy":     {"deliverAndRedirect:bool"},
		"hidden":        {"msExchHideFromAddressLists:bool"},
		"query":         {"msExchDynamicDLFilter:filter"},
		"query_base":    {"msExchDynamicDLBaseDN"},
		"list_policy":   {"msExchEnableModeration:moderated", "info:policy", "extensionName:policy", "msExchRequireAuthToSendTo:require-auth"},
		"owner":         {"managedBy", "msExchCoManagedByLink"},
		"moderator":     {"msExchModeratedByLink"},
		"list_sender":   {"msExchBypassModerationLink"},
		"list_allowed":  {"authOrig", "dLMemSubmitPerms"},
		"list_barred":   {"unauthOrig", "dLMemRejectPerms"},
		"require_login": {"msExchRequireAuthToSendTo:bool"},
		"access":        {"msExchDelegateListLink"},
		"send_as":       {"nTSecurityDescriptor:send-as"},
		"on_behalf":     {"publicDelegates"},
	},
	facts: []string{"cn", "mailNickname", "msExchRecipientTypeDetails", "name", "physicalDeliveryOfficeName"},
}
