// Package message reads RFC 5322 messages and MIME as they are, never as they should be, with octet offsets.
package message
