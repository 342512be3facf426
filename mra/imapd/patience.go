package imapd

import "time"

// stillHere is how often a client hears of us while a command takes long or it
// idles: often enough for the tables of address translators and the patience
// of clients.
const stillHere = 4 * time.Minute

// stillWorking is the same while the client waits for an answer.
const stillWorking = 20 * time.Second

// patiently runs f, which does not write to the client, and tells the client
// from time to time that its command is under way.
func (c *conn) patiently(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- guard(f) }()
	tick := time.NewTicker(stillWorking)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			c.untagged("OK Still working")
			if err := c.mc.Flush(); err != nil && c.broken == nil {
				c.broken = err
			}
		}
	}
}
