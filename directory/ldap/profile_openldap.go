package ldap

import "dirpost/directory"

// openLDAPFilter takes whatever may have an address or carry rights. slapd
// answers "undefined" for a class that its schema lacks, so the filter fits
// any schema. Containers are in it for the news that one was renamed.
const openLDAPFilter = "(|(objectClass=inetOrgPerson)(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)" +
	"(objectClass=dirpostMailbox)(objectClass=dirpostList)(objectClass=inetLocalMailRecipient)(objectClass=mailRecipient)(objectClass=mailGroup)" +
	"(objectClass=posixGroup)(objectClass=groupOfURLs)(objectClass=nisMailAlias)(objectClass=qmailUser)(objectClass=qmailGroup)" +
	"(objectClass=PostfixBookMailAccount)(objectClass=PostfixBookMailForward)(objectClass=mailUser)(objectClass=mailList)(objectClass=mailAlias)" +
	"(objectClass=mailDomain)(objectClass=kolabGroupOfUniqueNames)(objectClass=kolabGroupOfNames)(objectClass=kolabSharedFolder)" +
	"(objectClass=univentionMail)(objectClass=univentionGroup)(objectClass=univentionMailList)(objectClass=univentionMailSharedFolder)" +
	"(objectClass=univentionMailDomainname)(objectClass=ipaUserGroup)" +
	"(objectClass=organizationalUnit)(objectClass=organization)(objectClass=locality)(objectClass=country))"

// ownFields are the attributes of the optional schema of Dirpost,
// schema/ldap/dirpost.schema. They come before all others of their field.
var ownFields = map[string][]string{
	"kind":            {"dirpostMailboxKind"},
	"primary":         {"dirpostAddress"},
	"alias":           {"dirpostAlias"},
	"login_state":     {"dirpostEnabled:enabled-login"},
	"delivery_state":  {"dirpostEnabled:enabled-delivery"},
	"service":         {"dirpostService"},
	"quota":           {"dirpostQuotaBytes:octets"},
	"quota_send":      {"dirpostQuotaSendBytes:octets"},
	"quota_warn":      {"dirpostQuotaWarnBytes:octets"},
	"max_receive":     {"dirpostMaxReceiveBytes:octets"},
	"max_send":        {"dirpostMaxSendBytes:octets"},
	"forward":         {"dirpostForward"},
	"keep_copy":       {"dirpostForwardKeepCopy:bool"},
	"next_hop":        {"dirpostNextHop"},
	"hidden":          {"dirpostHidden:bool"},
	"external_member": {"dirpostListExternalMember"},
	"query":           {"dirpostListFilter:filter"},
	"query_base":      {"dirpostListFilterBase"},
	"list_policy":     {"dirpostListPolicy:policy"},
	"owner":           {"dirpostListOwner"},
	"moderator":       {"dirpostListModerator"},
	"list_sender":     {"dirpostListSender"},
	"list_allowed":    {"dirpostListAllowed"},
	"list_barred":     {"dirpostListBarred"},
	"access":          {"dirpostFullAccess"},
	"send_as":         {"dirpostSendAs"},
	"on_behalf":       {"dirpostSendOnBehalf"},
}

// profileOpenLDAP is any directory with the schemas that OpenLDAP ships, and
// with those of them for mail that agree with each other.
var profileOpenLDAP = &profile{
	name: PresetOpenLDAP, title: "OpenLDAP and its like, inetOrgPerson and groupOfNames",
	fields: map[string][]string{
		// 389 Directory Server names an entry by nsUniqueId when it tells of changes, also
		// where there is an entryUUID, which is another one; OpenLDAP has entryUUID alone.
		"id":              {"nsUniqueId:uuid", "entryUUID:uuid", "ipaUniqueID:uuid"},
		"name":            {"displayName", "cn"},
		"primary":         {"mailPrimaryAddress", "mail", "mailLocalAddress"},
		"alias":           {"mail", "mailAlternateAddress", "mailAlternativeAddress", "mailLocalAddress"},
		"login":           {"uid", "mail", "krbPrincipalName"},
		"login_state":     {"pwdAccountLockedTime:locked-time", "nsAccountLock:locked", "accountStatus:account-status"},
		"expires":         {"shadowExpire:days"},
		"delivery_state":  {"mailEnabled:enabled-flag", "accountStatus:account-deleted"},
		"quota":           {"mailQuotaSize:octets", "mailQuota:by-oid"},
		"max_receive":     {"mgrpMsgMaxSize:octets"},
		"forward":         {"mailForwardingAddress", "mailRoutingAddress"},
		"forward_state":   {"deliveryMode:no-forward"},
		"keep_copy":       {"deliveryMode:delivery-mode"},
		"member":          {"member", "uniqueMember:unique-member"},
		"member_login":    {"memberUid"},
		"external_member": {"rfc822MailMember", "mgrpRFC822MailMember"},
		"query":           {"memberURL"},
		"list_policy":     {"businessCategory:policy"},
		"owner":           {"owner"},
		"moderator":       {"mgrpModerator"},
		"sid":             {"sambaSID:sid"},
		"primary_group":   {"sambaPrimaryGroupSID:sid"},
		"modified":        {"entryCSN:csn", "modifyTimestamp:time"},
	},
	variants: []variant{
		{class: "nisMailAlias", kind: directory.KindList, fields: map[string][]string{
			"primary": {"dirpostAddress", "mail", "mailLocalAddress", "cn:address-only"},
			"alias":   {"dirpostAlias", "mail", "mailLocalAddress", "cn:address-only"},
		}},
	},
}

// profileQmail is qmail-ldap. A mailbox there keeps its copy of what it forwards
// unless deliveryMode says otherwise. deliveryProgramPath is never read.
var profileQmail = &profile{
	name: PresetQmail, title: "qmail-ldap", below: profileOpenLDAP,
	marks: []mark{{"qmailUser", "1.3.6.1.4.1.7914."}},
	fields: map[string][]string{
		"primary":         {"mail"},
		"alias":           {"mail", "mailAlternateAddress"},
		"login":           {"uid", "mail"},
		"login_state":     {"pwdAccountLockedTime:locked-time", "accountStatus:account-status"},
		"delivery_state":  {"accountStatus:account-deleted"},
		"quota":           {"mailQuotaSize:octets"},
		"max_receive":     {"mailSizeMax:octets"},
		"forward":         {"mailForwardingAddress"},
		"keep_copy":       {"deliveryMode:delivery-mode", "objectClass:qmail-copy"},
		"member":          {"dnmember", "member", "uniqueMember:unique-member"},
		"external_member": {"rfc822member", "rfc822MailMember"},
		"query":           {"filtermember:filter", "memberURL"},
		"list_policy":     {"dnmoderator:any-moderated", "rfc822moderator:any-moderated", "membersonly:members-only", "businessCategory:policy"},
		"moderator":       {"dnmoderator", "rfc822moderator"},
		"list_allowed":    {"dnsender", "rfc822sender"},
	},
	variants: []variant{{class: "qmailGroup", kind: directory.KindList}},
}

// profilePostfixBook is the schema of the Postfix Book, which docker-mailserver
// uses too. Whoever is in a list says so in the own entry, by its address.
var profilePostfixBook = &profile{
	name: PresetPostfixBook, title: "Postfix Book, docker-mailserver", below: profileOpenLDAP,
	marks: []mark{{"PostfixBookMailAccount", "1.3.6.1.4.1.29426."}},
	fields: map[string][]string{
		"primary":        {"mail"},
		"alias":          {"mail", "mailAlias"},
		"login":          {"uid", "mail"},
		"login_state":    {"pwdAccountLockedTime:locked-time", "mailEnabled:enabled-flag"},
		"delivery_state": {"mailEnabled:enabled-flag"},
		"quota":          {"mailQuota:kib"},
		"forward":        {"mailForwardingAddress"},
		"member_of":      {"mailGroupMember"},
	},
	variants: []variant{
		// mail is where it goes, mailAlias what it is.
		{class: "PostfixBookMailForward", kind: directory.KindList, fields: map[string][]string{
			"primary": {"dirpostAddress", "mailAlias"}, "alias": {"dirpostAlias", "mailAlias"},
			"external_member": {"mail", "mailForwardingAddress"}, "list_policy": {"dirpostListPolicy:policy", "objectClass:always-open"},
		}},
	},
}

// profileIRedMail is iRedMail. Whoever is in a list says so in the own entry, by
// its address; the own address among those of the forward keeps the copy.
var profileIRedMail = &profile{
	name: PresetIRedMail, title: "iRedMail", below: profileOpenLDAP,
	marks: []mark{{"mailUser", "1.3.6.1.4.1.32349."}},
	fields: map[string][]string{
		"primary":        {"mail"},
		"alias":          {"mail", "shadowAddress"},
		"login":          {"mail"},
		"login_state":    {"accountStatus:account-status", "domainStatus:account-status"},
		"expires":        {"expiredDate:time"},
		"delivery_state": {"accountStatus:account-deleted", "disabledService:deliver-off"},
		"service":        {"enabledService:service"},
		"service_off":    {"disabledService:service"},
		"quota":          {"mailQuota:octets"},
		"max_receive":    {"maxMessageSize:octets"},
		"max_send":       {"maxMessageSize:octets"},
		"forward":        {"mailForwardingAddress"},
		"forward_state":  {"disabledService:forward-off"},
		"member_of":      {"memberOfGroup"},
		"list_policy":    {"accessPolicy:policy"},
		"owner":          {"listOwner"},
		"moderator":      {"listModerator"},
		"list_sender":    {"listAllowedUser:address-only"},
		"domain":         {"domainName", "domainAliasName"},
	},
	variants: []variant{
		{class: "mailList", kind: directory.KindList, fields: map[string][]string{
			"delivery_state": {"dirpostEnabled:enabled-delivery", "accountStatus:account-status", "domainStatus:account-status"},
		}},
		{class: "mailAlias", kind: directory.KindList, fields: map[string][]string{
			"delivery_state":  {"dirpostEnabled:enabled-delivery", "accountStatus:account-status", "domainStatus:account-status"},
			"external_member": {"dirpostListExternalMember", "mailForwardingAddress"}, "forward": {},
		}},
		{class: "mailExternalUser", kind: directory.KindContact},
	},
}

// profileKolab is Kolab, on 389 Directory Server or OpenLDAP.
var profileKolab = &profile{
	name: PresetKolab, title: "Kolab", below: profileOpenLDAP,
	marks: []mark{{"kolabInetOrgPerson", "1.3.6.1.4.1.19414."}},
	fields: map[string][]string{
		"primary":        {"mail"},
		"alias":          {"mail", "alias", "mailAlternateAddress"},
		"login":          {"uid", "mail"},
		"login_state":    {"nsAccountLock:locked", "inetUserStatus:account-status", "pwdAccountLockedTime:locked-time"},
		"delivery_state": {"inetUserStatus:account-deleted"},
		"quota":          {"mailQuota:kib", "cyrus-userquota:mib"},
		"forward":        {"mailForwardingAddress"},
		"forward_state":  {"mailDeliveryOption:delivery-option"},
		"keep_copy":      {"mailDeliveryOption:delivery-mode"},
		"on_behalf":      {"kolabDelegate"},
	},
	variants: []variant{
		{class: "kolabGroupOfUniqueNames", kind: directory.KindList},
		{class: "kolabGroupOfNames", kind: directory.KindList},
		{class: "kolabSharedFolder", kind: directory.KindShared, fields: map[string][]string{"access": {"acl:kolab-acl"}}},
	},
}

// profileUCS is the OpenLDAP of Univention Corporate Server.
var profileUCS = &profile{
	name: PresetUCS, title: "Univention Corporate Server", below: profileOpenLDAP,
	marks: []mark{{"univentionMail", "1.3.6.1.4.1.10176."}, {"univentionGroup", "1.3.6.1.4.1.10176."}},
	fields: map[string][]string{
		"primary":         {"mailPrimaryAddress"},
		"alias":           {"mailAlternativeAddress"},
		"login":           {"uid"},
		"login_state":     {"sambaAcctFlags:samba-flags", "pwdAccountLockedTime:locked-time"},
		"quota":           {"univentionMailUserQuota:mib"},
		"forward":         {"mailForwardAddress"},
		"keep_copy":       {"mailForwardCopyToSelf:bool"},
		"external_member": {"univentionMailMember"},
		"list_allowed":    {"univentionAllowedEmailUsers", "univentionAllowedEmailGroups"},
		"domain":          {"cn"},
	},
	variants: []variant{
		{class: "univentionMailDomainname", kind: directory.KindDomain},
		{class: "univentionMailSharedFolder", kind: directory.KindShared},
		{class: "univentionMailList", kind: directory.KindList},
		{class: "univentionGroup", kind: directory.KindList},
	},
}

// profile389DS is 389 Directory Server with the mail schema of Netscape.
var profile389DS = &profile{
	name: Preset389DS, title: "389 Directory Server", below: profileOpenLDAP,
	fields: map[string][]string{
		"id":              {"nsUniqueId:uuid", "entryUUID:uuid"},
		"primary":         {"mail"},
		"alias":           {"mail", "mailAlternateAddress"},
		"login_state":     {"nsAccountLock:locked", "mailUserStatus:account-status", "inetUserStatus:account-status"},
		"delivery_state":  {"mailUserStatus:user-delivery", "inetUserStatus:account-deleted"},
		"quota":           {"mailQuota:octets"},
		"forward":         {"mailForwardingAddress"},
		"forward_state":   {"mailDeliveryOption:delivery-option"},
		"keep_copy":       {"mailDeliveryOption:delivery-mode"},
		"external_member": {"mgrpRFC822MailMember", "rfc822MailMember"},
		"query":           {"mgrpDeliverTo", "memberURL"},
		"list_policy":     {"mgrpModerator:any-moderated", "businessCategory:policy"},
		"list_allowed":    {"mgrpAllowedBroadcaster"},
	},
}

// profileFreeIPA is FreeIPA.
var profileFreeIPA = &profile{
	name: PresetFreeIPA, title: "FreeIPA", below: profileOpenLDAP,
	marks: []mark{{"ipaObject", "2.16.840.1.113730.3.8."}},
	fields: map[string][]string{
		"id":          {"nsUniqueId:uuid", "entryUUID:uuid", "ipaUniqueID:uuid"},
		"primary":     {"mail"},
		"alias":       {"mail", "mailAlternateAddress"},
		"login":       {"uid", "krbPrincipalName"},
		"login_state": {"nsAccountLock:locked"},
		"expires":     {"krbPrincipalExpiration:time"},
		"member":      {"member"},
	},
	variants: []variant{{class: "ipaUserGroup", kind: directory.KindList}},
}
