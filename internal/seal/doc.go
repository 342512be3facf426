// Package seal encrypts the secrets that nodes share as rows of the database:
// signing keys, certificate keys, keytabs, token keys. A copy of the database
// alone opens none of them.
//
// # Security
//
// XChaCha20-Poly1305 with a random nonce under a key of 256 bits that only
// nodes have which need it. What is sealed is bound to its purpose, a text that
// names the row, so that a sealed value moved to another row does not open.
// The key that sealed a value is found by an identifier in it, so a new key can
// be put in front of an old one and values be sealed again at leisure.
package seal
