package auth

import "slices"

// auditReasons are the classes of reason in the audit of logins and in its metrics, all
// of them: lower case, words joined by hyphens, the kind of proof in front where
// several kinds have the same trouble. docs/logins.md says what each means; a new one
// is added in both places.
var auditReasons = [...]string{
	// The account may not log in, or not so.
	"disabled", "expired", "password-expired", "must-change", "locked", "hours", "workstation",
	"policy", "service", "authzid", "no-mailbox",
	// The name, or the password.
	"unknown", "empty", "password", "door", "app-password", "app-password-service", "channel-binding",
	// The password was not judged: guesses.
	"throttled", "repeated", "sprayed", "no-permit",
	// The Kerberos ticket.
	"ticket-service", "ticket-realm", "ticket-key", "ticket-etype", "ticket-time", "ticket-skew", "ticket-replay", "ticket-forged", "ticket-binding",
	// The access token.
	"token-issuer", "token-audience", "token-times", "token-expired", "token-not-yet", "token-claim", "token-scope", "token-type", "token-bound",
	"token-key", "token-algorithm", "token-signature", "token-syntax", "token-inactive",
	// The client certificate.
	"certificate-none", "certificate-authority", "certificate-expired", "certificate-usage", "certificate-invalid", "certificate-ambiguous",
	"certificate-unmapped", "certificate-revoked",
	// What the client said is not in the protocol.
	"malformed",
	// Ours: it was not judged.
	"directory", "database", "permits", "issuer", "revocation", "internal",
}

// Reasons returns the classes of reason that the audit of logins has, sorted.
func Reasons() []string {
	all := slices.Clone(auditReasons[:])
	slices.Sort(all)
	return all
}
