package selfservice

import "fmt"

// say returns a text of the site. A key that is not there is a bug, which the tests
// of the pages find.
func say(key string, args ...any) string {
	text, ok := words[key]
	if !ok {
		panic("no text " + key)
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// words are all that the site says, in one place.
var words = map[string]string{
	"site":          "Your mail account",
	"skip":          "Skip to the content",
	"nav":           "Pages",
	"nav.home":      "Overview",
	"nav.password":  "Password",
	"nav.logins":    "Last logins",
	"nav.sessions":  "Sessions",
	"nav.logout":    "Log out",
	"logged.in":     "Logged in as %s",
	"detail":        "If you ask your administrator about this, name %s.",
	"field.user":    "Login name or mail address",
	"field.pass":    "Password",
	"field.old":     "Current password",
	"field.new":     "New password",
	"field.again":   "New password, once more",
	"button.login":  "Log in",
	"button.go":     "Continue",
	"button.change": "Change password",

	"nav.factors":   "Second factor",
	"field.code":    "Code",
	"field.name":    "Name, for yourself",
	"button.add":    "Add",
	"button.remove": "Remove",

	"second.title": "Second factor",
	"second.text":  "Enter the six digits that your authenticator app shows, or one of your recovery codes.",
	"second.key":   "Use security key",
	"second.or":    "Or use your security key:",
	"second.wrong": "That was not right. A code is good for half a minute, and for once.",
	"second.many":  "Too many codes were tried. Please wait an hour, or ask your administrator.",
	"second.lost":  "Nothing of it at hand? Ask your administrator to reset your second factor.",

	"factors.title":    "Second factor",
	"factors.text":     "With a second factor, your password alone is not enough here: not for this page, not for a new app password, and not for changing your password.",
	"factors.none":     "You have none yet.",
	"factors.kind":     "Kind",
	"factors.name":     "Name",
	"factors.created":  "Since",
	"factors.used":     "Last used",
	"factors.never":    "never",
	"factors.do":       "Action",
	"factors.totp":     "Authenticator app",
	"factors.webauthn": "Security key or passkey",
	"factors.app":      "Add an authenticator app",
	"factors.key":      "Add a security key or passkey",
	"factors.codes":    "Recovery codes",
	"factors.left":     "You have %s recovery codes left, for when you have nothing else at hand.",
	"factors.new":      "Make new recovery codes",
	"factors.remove":   "Remove %s",
	"factors.nowhere":  "There are no second factors of this kind here. Please ask your administrator.",
	"factors.exists":   "You have this one already. Remove it first.",
	"factors.many":     "You have too many security keys. Remove one first.",

	"app.title": "Add an authenticator app",
	"app.scan":  "Scan this with your app:",
	"app.alt":   "QR code with the secret that stands below as text",
	"app.type":  "Or type this secret into it:",
	"app.code":  "Then enter the six digits that the app shows.",
	"app.wrong": "This is not the code that the app should show now. Is the clock of the device right?",
	"app.old":   "This enrolment has ended. Begin anew.",

	"key.title":  "Add a security key or passkey",
	"key.text":   "Give it a name, press the button, and do what your browser asks.",
	"key.script": "Security keys need JavaScript in your browser.",
	"key.wrong":  "The key was not added. Please try again.",

	"codes.title": "Your recovery codes",
	"codes.text":  "Print them or write them down, and keep them apart from your devices. Each is good for once. They are not shown again, and codes from before work no more.",
	"codes.go":    "I have kept them",

	"done.factor":  "The second factor was added.",
	"done.removed": "The second factor was removed.",

	"home.title":    "Overview",
	"home.hello":    "Hello %s.",
	"home.password": "Change the password of your account. It is the one for everything in your organisation, not only for mail.",
	"home.factors":  "Protect your account with an authenticator app, a security key or a passkey.",
	"home.logins":   "See from where your account was used.",
	"home.sessions": "See where you are logged in, and log out everywhere.",

	"login.title":         "Log in",
	"login.refused":       "That did not work. Check the name and the password, and try again.",
	"login.disabled":      "Your account is disabled or has ended. Please ask your administrator.",
	"login.authorization": "You may not log in here, or not at this time. Please ask your administrator.",
	"login.expired":       "Your password has expired.",
	"login.away":          "Your login cannot be checked at the moment. This is our trouble and not your password; please try again in a few minutes.",

	"expired.title": "Your password has expired",
	"expired.code":  "Code of your authenticator app, or a recovery code",
	"expired.text":  "Your password is right, but it has expired or must be changed. Choose a new one; then log in with it.",

	"confirm.title": "Show that it is you",
	"confirm.text":  "You logged in some time ago. For this, please enter your password again.",

	"password.title":   "Change your password",
	"password.text":    "This changes the password of your account in the directory of your organisation. All mail programs and this page are logged out, and need the new one.",
	"password.nowhere": "Your password cannot be changed here. Please ask your administrator.",
	"password.empty":   "Enter a new password.",
	"password.differ":  "The two new passwords are not the same.",
	"password.same":    "The new password is the old one.",

	"refused.policy":      "The new password is against the rules of your organisation.",
	"refused.too-short":   "The new password is too short.",
	"refused.too-simple":  "The new password is too simple.",
	"refused.used-before": "You have used this password before.",
	"refused.too-soon":    "Your password was changed only a short time ago, and may not be changed again yet.",
	"refused.forbidden":   "You may not change your password yourself. Please ask your administrator.",
	"refused.old-wrong":   "The current password is not right.",
	"refused.no-way":      "Your directory does not let you change a password that has expired. Please ask your administrator for a new one.",
	"rules.intro":         "The rules:",
	"rules.length":        "at least %s characters;",
	"rules.complex":       "three of these: capital letters, small letters, digits, other signs; and not your name;",
	"rules.history":       "none of the last %s passwords;",
	"rules.age":           "no more than one change in %s;",
	"span.days":           "%s days",
	"span.hours":          "%s hours",
	"span.minutes":        "%s minutes",

	"logins.title":       "Last logins",
	"logins.text":        "From here your account was used in the last 90 days. Refused tries are not shown. The list is some seconds behind.",
	"logins.none":        "None yet.",
	"logins.what":        "For",
	"logins.client":      "Address",
	"logins.last":        "Last time",
	"logins.first":       "First time",
	"logins.count":       "Logins",
	"logins.imap":        "reading mail (IMAP)",
	"logins.pop3":        "reading mail (POP3)",
	"logins.smtp":        "sending mail",
	"logins.http":        "this page",
	"logins.managesieve": "mail filters",

	"notice.from":     ", by a browser at %s",
	"notice.password": "changed on the self-service page",
	"notice.removed":  "a second factor",

	"sessions.title":      "Where you are logged in",
	"sessions.text":       "These are your sessions on this page:",
	"sessions.client":     "Address",
	"sessions.agent":      "Browser",
	"sessions.created":    "Since",
	"sessions.seen":       "Last used",
	"sessions.here":       "this one",
	"sessions.everywhere": "Log out everywhere",
	"sessions.about":      "This ends all sessions of mail programs and of this page, on all servers. Programs that have your password log in again by themselves: change it if somebody else has it.",

	"done.password":   "Your password was changed. Log in with the new one.",
	"done.logout":     "You are logged out.",
	"done.everywhere": "You are logged out everywhere.",

	"error.title": "This did not work",
	"error.tls":   "This page works over HTTPS only.",
	"error.token": "This form is out of date. Go back, load the page again, and send it once more.",
	"error.cross": "This request came from another site, and was not carried out.",
	"error.form":  "The form could not be read.",
	"error.ours":  "Something is wrong on our side. Please try again in a few minutes.",
}
