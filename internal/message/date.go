package message

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// ErrDate reports a text in which no date can be found.
var ErrDate = errors.New("not a date")

// ParseDate reads a date-time (RFC 5322 §3.3, the obsolete forms of §4.3) and
// what programs write instead: other orders, two-digit years, no seconds, no
// zone, comments. The result is in the zone that was written, UTC if that is
// unknown, so that its calendar day is the one SENTON compares
// (RFC 9051 §6.4.4).
func ParseDate(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, strings.TrimSpace(s)); err == nil {
		return t, nil
	}
	d := dateParts{day: -1, month: -1, year: -1}
	for _, word := range dateWords(s) {
		d.take(word)
	}
	if d.day < 1 || d.day > 31 || d.month < 1 || d.year < 0 {
		return time.Time{}, ErrDate
	}
	zone := time.UTC
	if d.zone != 0 {
		zone = time.FixedZone("", d.zone)
	}
	t := time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, min(d.second, 59), 0, zone)
	if t.Day() != d.day {
		return time.Time{}, ErrDate // 31 February
	}
	return t, nil
}

// Date returns the origination date of the message.
func (h Header) Date() (time.Time, error) { return ParseDate(h.Get("date")) }

// maxDateWords bounds the words that are looked at.
const maxDateWords = 12

// dateWords splits a date at white space and commas, without comments.
func dateWords(s string) []string {
	words := make([]string, 0, maxDateWords)
	for s = dateSkip(s); s != "" && len(words) < maxDateWords; s = dateSkip(s) {
		n := strings.IndexAny(s, " \t\r\n,(")
		if n < 0 {
			n = len(s)
		}
		words = append(words, s[:n])
		s = s[n:]
	}
	return words
}

func dateSkip(s string) string {
	for s != "" {
		switch {
		case isSpace(s[0]) || s[0] == ',':
			s = s[1:]
		case s[0] == '(':
			s = s[commentLen([]byte(s)):]
		default:
			return s
		}
	}
	return s
}

// dateParts is what has been found of a date; -1 is nothing yet.
type dateParts struct {
	day, month, year     int
	hour, minute, second int
	zone                 int // seconds east of UTC
	hasTime, hasZone     bool
}

func (d *dateParts) take(word string) {
	switch {
	case strings.IndexByte(word, ':') > 0 && !d.hasTime:
		d.takeTime(word)
	case (word[0] == '+' || word[0] == '-') && len(word) > 1:
		d.takeOffset(word)
	case strings.Count(word, "-") == 2:
		for _, w := range strings.Split(word, "-") { // 21-Nov-2026
			if w != "" {
				d.take(w)
			}
		}
	case word[0] >= '0' && word[0] <= '9':
		d.takeNumber(word)
	default:
		d.takeName(word)
	}
}

func (d *dateParts) takeTime(word string) {
	f := strings.SplitN(word, ":", 3)
	hour, err1 := strconv.Atoi(f[0])
	minute, err2 := strconv.Atoi(f[1])
	second := 0
	if len(f) == 3 {
		digits := f[2]
		for i := 0; i < len(digits); i++ {
			if digits[i] < '0' || digits[i] > '9' {
				digits = digits[:i]
			}
		}
		second, _ = strconv.Atoi(digits)
	}
	if err1 != nil || err2 != nil || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second > 60 {
		return
	}
	d.hour, d.minute, d.second, d.hasTime = hour, minute, second, true
}

// takeOffset takes +0100; "-0000" is a UTC of which nothing is known
// (RFC 5322 §3.3).
func (d *dateParts) takeOffset(word string) {
	n, err := strconv.Atoi(strings.Replace(word[1:], ":", "", 1))
	if err != nil || d.hasZone || n/100 > 14 || n%100 > 59 {
		return
	}
	d.zone, d.hasZone = (n/100*60+n%100)*60, true
	if word[0] == '-' {
		d.zone = -d.zone
	}
}

func (d *dateParts) takeNumber(word string) {
	n, err := strconv.Atoi(word)
	switch {
	case err != nil:
	case d.day < 0 && n <= 31 && len(word) <= 2:
		d.day = n
	case d.year < 0 && len(word) == 4 && n >= 1900:
		d.year = n
	// RFC 5322 §4.3: two digits below 50 are 20xx, other short years 19xx.
	case d.year < 0 && len(word) == 2 && n < 50:
		d.year = 2000 + n
	case d.year < 0 && (len(word) == 2 || len(word) == 3):
		d.year = 1900 + n
	}
}

func (d *dateParts) takeName(word string) {
	if len(word) >= 3 && d.month < 0 {
		if i := strings.Index("janfebmaraprmayjunjulaugsepoctnovdec", strings.ToLower(word[:3])); i >= 0 && i%3 == 0 {
			d.month = i/3 + 1
			return
		}
	}
	if d.hasZone || !d.hasTime {
		return
	}
	d.hasZone = true
	// The zones of RFC 822; military letters other than Z mean nothing
	// (RFC 5322 §4.3).
	switch strings.ToUpper(word) {
	case "EDT":
		d.zone = -4 * 3600
	case "EST", "CDT":
		d.zone = -5 * 3600
	case "CST", "MDT":
		d.zone = -6 * 3600
	case "MST", "PDT":
		d.zone = -7 * 3600
	case "PST":
		d.zone = -8 * 3600
	}
}
