package message

// JunkField is the trace field of a message that policy judged junk and that was
// accepted nevertheless. The door adds it, with the reason; the delivery agent
// puts such a message into Junk, at once or when it comes from the queue. A sender
// who sets it himself harms nobody else.
const JunkField = "X-Dirpost-Junk"
