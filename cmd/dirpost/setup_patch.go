package main

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A tomlEdit sets one key of a TOML text, or takes it away.
type tomlEdit struct {
	// path is the table's name in its parts, then the key. "#0" is the first element
	// of an array of tables; the number of those that there are makes another one.
	path []string
	// value is a string, a bool, an int64 or a []string; nil takes the key away, or
	// the whole table or array of tables that path names.
	value any
}

// edit is a tomlEdit of a path whose parts have no dots.
func edit(path string, value any) tomlEdit { return tomlEdit{strings.Split(path, "."), value} }

// patchTOML makes edits in a text and leaves every octet beside them as it is:
// comments, order, white space, keys that it does not know. A key that has its value
// already is not touched, so that no edit at all returns text itself. The result is
// read again and compared with what was asked for; where the text is written in a
// way that it could not be changed safely, as with inline tables, that is an error
// that names the key.
func patchTOML(text []byte, edits []tomlEdit) ([]byte, error) {
	for _, e := range edits {
		was := map[string]any{}
		if err := toml.Unmarshal(text, &was); err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		want, changed, err := e.apply(was)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name(), err)
		}
		if !changed {
			continue
		}
		next, err := e.patch(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name(), err)
		}
		is := map[string]any{}
		if err := toml.Unmarshal(next, &is); err != nil || !reflect.DeepEqual(withoutEmpty(is), withoutEmpty(want)) {
			return nil, fmt.Errorf("%s: stands in a form that is not changed by a program: write it as [%s] with a line of its own", e.name(), strings.Join(e.path[:len(e.path)-1], "."))
		}
		text = next
	}
	return text, nil
}

// name is the key as people write it.
func (e tomlEdit) name() string { return strings.Join(e.path, ".") }

// arrayElement is the number of an element of an array of tables, -1 for a name.
func arrayElement(part string) int {
	if digits, ok := strings.CutPrefix(part, "#"); ok {
		if n, err := strconv.Atoi(digits); err == nil && n >= 0 && n < 1000 {
			return n
		}
	}
	return -1
}

// apply makes the edit in a decoded document, which it does not keep.
func (e tomlEdit) apply(doc map[string]any) (want map[string]any, changed bool, err error) {
	if !utf8.ValidString(e.name()) {
		return nil, false, errors.New("is no UTF-8")
	}
	var value any
	if e.value != nil {
		// As the decoder has it.
		text, err := tomlValue(e.value)
		if err != nil {
			return nil, false, err
		}
		one := map[string]any{}
		if err := toml.Unmarshal([]byte("v = "+text), &one); err != nil {
			return nil, false, err
		}
		value = one["v"]
	}
	next, changed, err := set(doc, e.path, value)
	if err != nil {
		return nil, false, err
	}
	if next == nil {
		next = map[string]any{}
	}
	return next.(map[string]any), changed, nil
}

// set returns node with what is at path replaced by value, and whether that is a
// change.
func set(node any, path []string, value any) (any, bool, error) {
	if len(path) == 0 {
		return value, !reflect.DeepEqual(node, value), nil
	}
	if i := arrayElement(path[0]); i >= 0 {
		list, ok := node.([]any)
		if !ok && node != nil {
			return nil, false, errors.New("is no array of tables")
		}
		switch {
		case i > len(list), i == len(list) && value == nil:
			return node, false, nil
		case i == len(list):
			list = append(slices.Clone(list), nil)
		default:
			list = slices.Clone(list)
		}
		next, changed, err := set(list[i], path[1:], value)
		list[i] = next
		return list, changed, err
	}
	table, ok := node.(map[string]any)
	if !ok && node != nil {
		return nil, false, errors.New("is no table")
	}
	if table[path[0]] == nil && value == nil {
		return node, false, nil
	}
	next, changed, err := set(table[path[0]], path[1:], value)
	if err != nil || !changed {
		return node, false, err
	}
	copied := map[string]any{}
	for k, v := range table {
		copied[k] = v
	}
	copied[path[0]] = next
	if next == nil {
		delete(copied, path[0])
	}
	return copied, true, nil
}

// withoutEmpty is a document without tables that say nothing.
func withoutEmpty(node any) any {
	switch node := node.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, v := range node {
			v = withoutEmpty(v)
			if t, ok := v.(map[string]any); !ok || len(t) > 0 {
				out[k] = v
			}
		}
		return out
	case []any:
		out := make([]any, len(node))
		for i, v := range node {
			out[i] = withoutEmpty(v)
		}
		return out
	}
	return node
}

// A tomlPart is one expression of a text: a header, or a key with its value.
type tomlPart struct {
	path       []string // as in tomlEdit
	header     bool
	array      bool // header of an element of an array of tables
	start, end int  // its lines, end behind the line end
	value      int  // where the value begins
	valueEnd   int
}

// tomlParts are the expressions of a text, in order.
func tomlParts(text []byte) ([]tomlPart, error) {
	var p unstable.Parser
	p.Reset(text)
	var parts []tomlPart
	var table []string
	count := map[string]int{} // elements of arrays, by their path
	for p.NextExpression() {
		e := p.Expression()
		var names []string
		first, last := -1, -1
		for it := e.Key(); it.Next(); {
			raw := it.Node().Raw
			if first < 0 {
				first = int(raw.Offset)
			}
			last = int(raw.Offset + raw.Length)
			names = append(names, string(it.Node().Data))
		}
		part := tomlPart{start: lineStart(text, first)}
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			part.header, part.array = true, e.Kind == unstable.ArrayTable
			table = inArrays(names, part.array, count)
			part.path, part.end = table, lineEnd(text, last)
		case unstable.KeyValue:
			part.path = append(slices.Clone(table), names...)
			part.valueEnd = int(e.Raw.Offset + e.Raw.Length)
			part.value = last + bytes.IndexByte(text[last:], '=') + 1
			for part.value < part.valueEnd && (text[part.value] == ' ' || text[part.value] == '\t') {
				part.value++
			}
			part.end = lineEnd(text, part.valueEnd)
		}
		parts = append(parts, part)
	}
	if err := p.Error(); err != nil {
		return nil, err
	}
	return parts, nil
}

// inArrays puts the number of the current element behind each name that is an array
// of tables.
func inArrays(names []string, array bool, count map[string]int) []string {
	var path []string
	for i, name := range names {
		path = append(path, name)
		key := strings.Join(path, "\x00")
		n, is := count[key]
		if i == len(names)-1 && array {
			if is {
				n++
			}
			count[key], is = n, true
		}
		if is {
			path = append(path, "#"+strconv.Itoa(n))
		}
	}
	return path
}

func lineStart(text []byte, at int) int { return bytes.LastIndexByte(text[:at], '\n') + 1 }

func lineEnd(text []byte, at int) int {
	if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(text)
}

// patch makes the edit in a text in which it is a change.
func (e tomlEdit) patch(text []byte) ([]byte, error) {
	parts, err := tomlParts(text)
	if err != nil {
		return nil, err
	}
	if e.value == nil {
		return e.cut(text, parts), nil
	}
	value, err := tomlValue(e.value)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if !p.header && slices.Equal(p.path, e.path) {
			return slices.Concat(text[:p.value], []byte(value), text[p.valueEnd:]), nil
		}
	}
	return e.insert(text, parts, value), nil
}

// cut takes away the lines of the key, or those of the table and what is in it.
func (e tomlEdit) cut(text []byte, parts []tomlPart) []byte {
	var out []byte
	at := 0
	for _, p := range parts {
		if len(p.path) >= len(e.path) && slices.Equal(p.path[:len(e.path)], e.path) && p.start >= at {
			out = append(out, text[at:p.start]...)
			at = p.end
		}
	}
	return append(out, text[at:]...)
}

// insert puts a key that is not there at the end of its table, or behind the comment
// that shows how it is written.
func (e tomlEdit) insert(text []byte, parts []tomlPart, value string) []byte {
	table, name := e.path[:len(e.path)-1], e.path[len(e.path)-1]
	newline := "\n"
	if bytes.Contains(text, []byte("\r\n")) {
		newline = "\r\n"
	}
	line := tomlKey(name) + " = " + value + newline
	at, end := -1, len(text) // behind the last line of the table; where the next begins
	empty := false           // the table has no keys yet
	if len(table) == 0 {
		at = 0
	}
	for _, p := range parts {
		switch {
		case p.header && slices.Equal(p.path, table):
			at, end, empty = p.end, len(text), true
		case at >= 0 && end == len(text) && p.header:
			end = p.start
		case at >= 0 && end == len(text):
			at, empty = p.end, false
		}
	}
	if at < 0 {
		return e.appendTable(text, table, line, newline)
	}
	shown := regexp.MustCompile(`(?m)^#[ \t]?` + regexp.QuoteMeta(name) + `[ \t]*=.*\r?\n?`)
	for _, m := range shown.FindAllIndex(text[:end], -1) {
		if m[1] >= at && !inside(parts, m[0]) {
			at = m[1]
			break
		}
	}
	for empty && bytes.HasPrefix(text[at:end], []byte("#")) { // what is said of the table
		at = lineEnd(text, at)
	}
	before := text[:at]
	if len(before) > 0 && before[len(before)-1] != '\n' {
		before = slices.Concat(before, []byte(newline))
	}
	return slices.Concat(before, []byte(line), text[at:])
}

// inside reports whether a place is in the middle of a value, as of a string with
// several lines.
func inside(parts []tomlPart, at int) bool {
	return slices.ContainsFunc(parts, func(p tomlPart) bool { return p.start <= at && at < p.end })
}

// appendTable puts a table with one line at the end.
func (e tomlEdit) appendTable(text []byte, table []string, line, newline string) []byte {
	var names []string
	array := false
	for i, part := range table {
		if arrayElement(part) < 0 {
			names = append(names, tomlKey(part))
		} else {
			array = i == len(table)-1
		}
	}
	header := "[" + strings.Join(names, ".") + "]"
	if array {
		header = "[" + header + "]"
	}
	out := slices.Clone(text)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, newline...)
	}
	if len(out) > 0 {
		out = append(out, newline...)
	}
	return append(out, header+newline+line...)
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// tomlKey is a key as it is written.
func tomlKey(name string) string {
	if bareKey.MatchString(name) {
		return name
	}
	return quoteTOML(name)
}

// tomlValue is a value as it is written.
func tomlValue(v any) (string, error) {
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) {
			return "", errors.New("is no UTF-8")
		}
		return quoteTOML(v), nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case []string:
		all := make([]string, len(v))
		for i, s := range v {
			if !utf8.ValidString(s) {
				return "", errors.New("is no UTF-8")
			}
			all[i] = quoteTOML(s)
		}
		return "[" + strings.Join(all, ", ") + "]", nil
	}
	return "", fmt.Errorf("no value of a configuration: %T", v)
}

// quoteTOML is a basic string.
func quoteTOML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
