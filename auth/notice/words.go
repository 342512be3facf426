package notice

// A Kind is what was done.
type Kind string

// The kinds of notices.
const (
	AppPassword   Kind = "app-password"
	Factor        Kind = "second-factor"
	FactorRemoved Kind = "second-factor-removed"
	Password      Kind = "password"
	Network       Kind = "network"
)

// words are the texts of a kind.
type words struct {
	subject string
	intro   string // before the lines
	advice  string // what to do if it was somebody else
}

// texts are all texts, in one place.
var texts = map[Kind]words{
	AppPassword: {"A new app password for your account", "A new app password was made for your account:",
		"Revoke it on the page below, and change your password."},
	Factor: {"A second factor was added to your account", "A second factor was added to your account:",
		"Remove it on the page below, and change your password."},
	FactorRemoved: {"A second factor was removed from your account", "A second factor, or all of them, was removed from your account:",
		"Add one again on the page below, and change your password."},
	Password: {"The password of your account was changed", "The password of your account was changed:",
		"Ask your administrator for help now: somebody else may have your account."},
	Network: {"A login to your account from a new network", "Somebody has logged in to your account from a network that you have not used before:",
		"Change your password, and log out everywhere on the page below."},
}

const (
	greeting = "Hello%s,\n\n"
	wasYou   = "If that was you, you need not do anything.\n\nIf it was not: "
	more     = "and more of this kind"
	page     = "\nYour account: %s\n"
	footer   = "\n-- \nThis message was made by the mail system of %s. Times are those of\nUTC. You can ask %s about it.\n"
	sender   = "Your mail account"
)
