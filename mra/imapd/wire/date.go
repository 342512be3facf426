package wire

import (
	"strings"
	"time"
)

const (
	dateLayout     = "2-Jan-2006"
	dateTimeLayout = "_2-Jan-2006 15:04:05 -0700"
)

// Date takes a date of SEARCH, quoted or not (RFC 9051 §9, date), as midnight
// UTC: the comparison disregards time and zone.
func (d *Decoder) Date() time.Time {
	var s string
	if d.Peek() == '"' {
		s = d.quoted()
	} else {
		s = string(d.run(atomChar))
	}
	if d.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(dateLayout, titleMonth(s))
	if err != nil {
		d.Fail("invalid date")
	}
	return t
}

// DateTime takes the quoted date-time of APPEND (RFC 9051 §9, date-time).
func (d *Decoder) DateTime() time.Time {
	if d.Peek() != '"' {
		d.expect("a date-time")
		return time.Time{}
	}
	s := d.quoted()
	if d.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(dateTimeLayout, titleMonth(s))
	if err != nil || t.Year() < 1 {
		d.Fail("invalid date-time")
		return time.Time{}
	}
	return t
}

// titleMonth writes the month as package time wants it; strings of the grammar
// are case-insensitive (RFC 9051 §9).
func titleMonth(s string) string {
	i := strings.IndexByte(s, '-')
	if i < 0 || len(s) < i+4 {
		return s
	}
	m := s[i+1 : i+4]
	return s[:i+1] + strings.ToUpper(m[:1]) + strings.ToLower(m[1:]) + s[i+4:]
}

// AppendDateTime appends t as a quoted date-time, with its zone.
func AppendDateTime(dst []byte, t time.Time) []byte {
	dst = append(dst, '"')
	dst = t.AppendFormat(dst, dateTimeLayout)
	return append(dst, '"')
}
