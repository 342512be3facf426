package testenv

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Countries makes a file in the format of MaxMind (version 2.0 of its specification) that
// has the country of networks, as its two letters and its English name.
func Countries(networks map[string][2]string) []byte {
	type node [2]int // 0: nothing below; > 0: a node; < 0: an entry of data, counted from -1
	tree := []node{{}}
	var data []byte
	var at []int // of the entries, in data
	for text, country := range networks {
		p := netip.MustParsePrefix(text)
		bits, addr := p.Bits(), p.Addr().As16()
		if p.Addr().Is4() { // stands below ::/96
			bits += 96
			four := p.Addr().As4()
			addr = [16]byte{12: four[0], 13: four[1], 14: four[2], 15: four[3]}
		}
		at = append(at, len(data))
		data = append(data, mmdbMap(1)...)
		data = append(append(data, mmdbString("country")...), mmdbMap(2)...)
		data = append(append(data, mmdbString("iso_code")...), mmdbString(country[0])...)
		data = append(append(data, mmdbString("names")...), mmdbMap(1)...)
		data = append(append(data, mmdbString("en")...), mmdbString(country[1])...)
		n := 0
		for i := range bits {
			side := int(addr[i/8]>>(7-i%8)) & 1
			if i == bits-1 {
				tree[n][side] = -len(at)
				break
			}
			if tree[n][side] == 0 {
				tree = append(tree, node{})
				tree[n][side] = len(tree) - 1
			}
			n = tree[n][side]
		}
	}
	var out []byte
	for _, n := range tree { // records of 32 bits
		for _, to := range n {
			switch {
			case to == 0:
				to = len(tree) // nothing
			case to < 0:
				to = len(tree) + 16 + at[-to-1]
			}
			out = binary.BigEndian.AppendUint32(out, uint32(to))
		}
	}
	out = append(append(out, make([]byte, 16)...), data...)
	out = append(out, "\xab\xcd\xefMaxMind.com"...)
	out = append(out, mmdbMap(7)...)
	for _, f := range []struct {
		name  string
		value []byte
	}{
		{"binary_format_major_version", mmdbUint(5, 2)}, {"binary_format_minor_version", mmdbUint(5, 0)},
		{"build_epoch", mmdbUint(9, uint64(time.Now().Unix()))}, {"database_type", mmdbString("Test-Country")},
		{"ip_version", mmdbUint(5, 6)}, {"node_count", mmdbUint(6, uint64(len(tree)))}, {"record_size", mmdbUint(5, 32)},
	} {
		out = append(append(out, mmdbString(f.name)...), f.value...)
	}
	return out
}

func mmdbString(s string) []byte {
	if len(s) >= 29 {
		return append([]byte{2<<5 | 29, byte(len(s) - 29)}, s...)
	}
	return append([]byte{2<<5 | byte(len(s))}, s...)
}

func mmdbMap(n int) []byte { return []byte{7<<5 | byte(n)} }

// mmdbUint writes a number of one of the types 5 (16 bits), 6 (32) and 9 (64), which is
// an extended one.
func mmdbUint(kind int, n uint64) []byte {
	octets := binary.BigEndian.AppendUint64(nil, n)
	for len(octets) > 0 && octets[0] == 0 {
		octets = octets[1:]
	}
	if kind > 7 {
		return append([]byte{byte(len(octets)), byte(kind - 7)}, octets...)
	}
	return append([]byte{byte(kind<<5 | len(octets))}, octets...)
}
