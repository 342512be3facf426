package ldap

// Level says what somebody gains who may write the source of a field.
type Level uint8

// The levels of a field.
const (
	Harmless Level = iota // how the person is shown, and nothing else
	Power                 // addresses, logins, limits, rights: never from what people write themselves
)

// String returns the word for l in documents and messages.
func (l Level) String() string {
	if l == Power {
		return "power"
	}
	return "harmless"
}

// A Field is one of the things about an entry that mail asks for: a logical
// field, which Config.Mapping may read from other attributes.
type Field struct {
	Name    string
	Meaning string // and how several sources count
	Level   Level
}

// Fields are the logical fields in the order in which documents name them.
func Fields() []Field {
	return []Field{
		{"id", "what names the entry for ever; first", Power},
		{"kind", "personal, shared, room, equipment, contact, elsewhere; first, else by objectClass", Power},
		{"name", "name shown to people; first", Harmless},
		{"primary", "primary address; first", Power},
		{"alias", "further addresses; all", Power},
		{"x500", "addresses of Exchange, for replies to old mail; all", Power},
		{"login", "login names besides the primary address; all", Power},
		{"login_state", "active, disabled, expired, locked, must-change; the first that is not active", Power},
		{"expires", "end of the account; first", Power},
		{"delivery_state", "active, disabled, held; the first that is not active", Power},
		{"service", "protocols allowed, none: all; all", Power},
		{"service_off", "protocols not allowed; all", Power},
		{"quota", "octets above which nothing is received; first", Power},
		{"quota_send", "octets above which nothing may be sent; first", Power},
		{"quota_warn", "octets above which a warning is sent; first", Power},
		{"quota_default", "true: the sizes above do not count; first", Power},
		{"max_receive", "octets of the largest message that is taken; first", Power},
		{"max_send", "octets of the largest message that may be sent; first", Power},
		{"forward", "addresses that the mail goes to; first source that has any", Power},
		{"forward_to", "DNs of entries that the mail goes to; all", Power},
		{"forward_state", "off, on: off without an on takes the forward away; all", Power},
		{"keep_copy", "with forward: deliver as well; first", Power},
		{"next_hop", "host[:port] that holds the mailbox elsewhere; first", Power},
		{"place", "elsewhere: another system has the mailbox; first", Power},
		{"hidden", "not in the address book; first", Harmless},
		{"member", "DNs of members; all", Power},
		{"member_login", "login names of members; all", Power},
		{"external_member", "addresses of members; all", Power},
		{"member_of", "addresses of the lists that the entry is in; all", Power},
		{"query", "LDAP URLs and filters: whoever matches is a member; all", Power},
		{"query_base", "DN below which the filters of query look; first", Power},
		{"list_policy", "who may send to a list: open, internal, members, owners, moderated; first", Power},
		{"owner", "DNs or addresses of owners; all", Power},
		{"moderator", "DNs or addresses of moderators; all", Power},
		{"list_sender", "DNs or addresses that may send in any case; all", Power},
		{"list_allowed", "DNs or addresses, the only ones that may send, if there are any; all", Power},
		{"list_barred", "DNs or addresses that may not send; all", Power},
		{"require_login", "true: only who has logged in may send to it; first", Power},
		{"access", "DNs or addresses that may open the mailbox; all", Power},
		{"send_as", "DNs that may send as it; all", Power},
		{"on_behalf", "DNs or addresses that may send on its behalf; all", Power},
		{"sid", "security identifier; first", Power},
		{"certificate", "certificates that log in as the person, besides by sid; all", Power},
		{"primary_group", "SID, or relative identifier, of the group that does not list the person; first", Power},
		{"domain", "mail domains that the entry makes ours; all", Power},
		{"modified", "time of the last change, as fine as there is; the latest", Harmless},
	}
}

// levelOf returns the level of a field, false for a name that is none.
func levelOf(name string) (Level, bool) {
	for _, f := range Fields() {
		if f.Name == name {
			return f.Level, true
		}
	}
	return 0, false
}

// DefaultFacts are the attributes that lists defined by a filter may ask for,
// where the configuration names no others.
func DefaultFacts() []string {
	return []string{
		"objectClass", "businessCategory", "c", "company", "department", "departmentNumber",
		"employeeType", "l", "manager", "o", "ou", "st", "title",
	}
}
