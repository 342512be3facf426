package message

// boundarySet finds which of the open boundaries a line begins with, in time
// that depends on the line and not on their number: a message may have a
// hundred open ones that begin alike, and millions of lines that begin like
// them. It is a trie; siblings are a list.
type boundarySet struct{ nodes []boundaryNode }

type boundaryNode struct {
	octet byte
	next  int32 // sibling, 0 for none
	child int32 // first child, 0 for none
	depth int32 // of the open part whose boundary ends here, -1 for none
}

// maxBoundaryNodes is when a set that only grew is made anew.
const maxBoundaryNodes = 1 << 16

// add makes boundary that of the open part at depth, which is the innermost.
func (s *boundarySet) add(boundary []byte, depth int) {
	if len(s.nodes) == 0 {
		s.nodes = append(make([]boundaryNode, 0, 64), boundaryNode{depth: -1})
	}
	at := int32(0)
	for _, c := range boundary {
		n := s.find(at, c)
		if n == 0 {
			n = int32(len(s.nodes))
			s.nodes = append(s.nodes, boundaryNode{octet: c, next: s.nodes[at].child, depth: -1})
			s.nodes[at].child = n
		}
		at = n
	}
	s.nodes[at].depth = int32(depth)
}

// find returns the child of the node at for the octet c, 0 for none.
func (s *boundarySet) find(at int32, c byte) int32 {
	n := s.nodes[at].child
	for n != 0 && s.nodes[n].octet != c {
		n = s.nodes[n].next
	}
	return n
}

// match returns the depth of the open part with the longest boundary that text
// begins with, and the length of that boundary; depth -1 for none.
func (s *boundarySet) match(text []byte) (depth, size int) {
	depth = -1
	if len(s.nodes) == 0 {
		return depth, 0
	}
	at := int32(0)
	for i, c := range text {
		if at = s.find(at, c); at == 0 {
			break
		}
		if d := s.nodes[at].depth; d >= 0 {
			depth, size = int(d), i+1
		}
	}
	return depth, size
}

// replace says that boundary now belongs to the open part at depth, or to none
// if that is -1.
func (s *boundarySet) replace(boundary []byte, depth int) {
	at := int32(0)
	for _, c := range boundary {
		at = s.find(at, c)
	}
	s.nodes[at].depth = int32(depth)
}
