// Package autoconfig tells mail clients which servers to use and how to log in, so
// that a person types an address and a password and nothing else: Thunderbird's
// config-v1.1.xml and an add-on by which it gets tokens, Outlook's Autodiscover, and
// signed profiles for Apple's devices.
//
// # Standards
//
// draft-ietf-mailmaint-autoconfig (config-v1.1.xml), [MS-OXDSCLI] (Autodiscover in
// plain old XML, and the redirect of the JSON form that asks for it), Apple's
// Configuration Profile Reference (com.apple.mail.managed), RFC 5652 (the signature
// of a profile), Thunderbird's oauth_provider (the add-on) and RFC 7636 (its code).
//
// # Concurrency
//
// A Service answers any number of requests and keeps nothing between them.
//
// # Limits
//
// A request body may have 64 KiB. POP3 is told to Thunderbird and Outlook, and not
// to Apple's devices, whose profile has one account. Outlook and Apple's devices are
// told to log in by password: neither has another way to other servers than those of
// their makers and Google that is documented and that we speak.
//
// # Security
//
// Everybody may ask, as in the clear: settings are no secret. What is told about a
// person is the login name for an address that they have, which is an address too
// unless that is also the login name of somebody else, and no more than port 25 tells
// by its answer to RCPT; an address that nobody has gets the same settings.
// Clients believe what they are told without a signature when they ask over HTTP,
// so that a network that is not trusted should offer HTTPS names (docs/autoconfig.md).
package autoconfig
