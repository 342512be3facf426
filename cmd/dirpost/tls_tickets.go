package main

import (
	"errors"
	"io/fs"

	"dirpost/internal/tlsconf"
)

// ticketSealer has the keys of the TLS session tickets that all nodes take. Without a
// sealing key, on a node that was not given it, and where nobody logs in, there is none, and tickets are of
// the process.
func (n *node) ticketSealer() (tlsconf.Sealer, error) {
	if n.file.Server.SealingKey.String() == "" || !n.has(roleMSA, roleIMAP, rolePOP) {
		return nil, nil
	}
	sealer, err := n.file.sealer()
	switch {
	case err == nil:
		return sealer, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	}
	return nil, err
}
