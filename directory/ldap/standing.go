package ldap

import (
	"sync"

	"dirpost/directory"
)

// standing is what a source that knows one server at a time says of itself.
type standing struct {
	mu     sync.Mutex // guards server
	server string     // URL of the one that is followed, "" for none yet
}

// at takes down which server is followed.
func (s *standing) at(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = server
}

// status is what is said with a mode.
func (s *standing) status(c *Client, mode, wake, deletions string) directory.SourceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := directory.SourceStatus{Mode: mode, Wake: wake, Deletions: deletions, Server: s.server, Servers: c.directoryServers(s.server)}
	out.Profile, out.ProfileWhy = c.readAs()
	return out
}

// Status implements directory.Reporter.
func (s *syncrepl) Status() directory.SourceStatus {
	return s.status(s.client, FollowSyncrepl, "persist", DeletionsTold)
}

// Status implements directory.Reporter.
func (p *poller) Status() directory.SourceStatus {
	return p.status(p.client, FollowPoll, FollowPoll, DeletionsCompared)
}
