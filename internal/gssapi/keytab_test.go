package gssapi

import (
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/types"
)

// keytabOf writes a keytab of version 2.
func keytabOf(entries ...keyEntry) []byte {
	b := []byte{5, 2}
	for _, e := range entries {
		b = appendEntry(b, e, time.Unix(0, 0))
	}
	return b
}

func entryOf(name string, kvno uint32, etype int32, size int) keyEntry {
	return keyEntry{realm: "CORP.EXAMPLE", components: strings.Split(name, "/"), kvno: kvno,
		key: types.EncryptionKey{KeyType: etype, KeyValue: []byte(strings.Repeat("k", size))}}
}

func TestFindKey(t *testing.T) {
	t.Parallel()
	mixed := keytabOf(
		entryOf("MAIL$", 2, 18, 32), entryOf("MAIL$", 300, 17, 16), entryOf("MAIL$", 300, 18, 32), entryOf("MAIL$", 300, 23, 16),
		entryOf("imap/mail.corp.example", 301, 18, 32), entryOf("OLD$", 1, 23, 16), entryOf("ODD$", 1, 18, 16))
	withHole := append([]byte{5, 2, 0xff, 0xff, 0xff, 0xfc, 1, 2, 3, 4}, mixed[2:]...)
	tests := []struct {
		name      string
		keytab    []byte
		principal string
		kvno      uint32
		etype     int32
		err       string // part of it, "" for none
	}{
		{"highest number, strongest key", mixed, "MAIL$", 300, 18, ""},
		{"case does not matter", mixed, "mail$", 300, 18, ""},
		{"a name of two parts", mixed, "imap/mail.corp.example", 301, 18, ""},
		{"a hole", withHole, "MAIL$", 300, 18, ""},
		{"zeros at the end", append(keytabOf(entryOf("MAIL$", 1, 18, 32)), make([]byte, 40)...), "MAIL$", 1, 18, ""},
		{"another account", mixed, "svc-mail", 0, 0, "no key of svc-mail@CORP.EXAMPLE, but of MAIL$@CORP.EXAMPLE"},
		{"RC4 alone", mixed, "OLD$", 0, 0, "no AES key"},
		{"a key of the wrong size", mixed, "ODD$", 0, 0, "no AES key"},
		{"no entries", []byte{5, 2}, "MAIL$", 0, 0, "empty"},
		{"none at all", nil, "MAIL$", 0, 0, "damaged"},
		{"a text", []byte("secret"), "MAIL$", 0, 0, "damaged"},
		{"cut off", mixed[:100], "MAIL$", 0, 0, "damaged"},
	}
	for _, tt := range tests {
		e, err := findKey(tt.keytab, tt.principal, "CORP.EXAMPLE")
		switch {
		case tt.err == "" && (err != nil || e.kvno != tt.kvno || e.key.KeyType != tt.etype):
			t.Errorf("%s: number %d, type %d, %v; want %d, %d", tt.name, e.kvno, e.key.KeyType, err, tt.kvno, tt.etype)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
	}
}

// FuzzKeytab: any file is read or refused, and no error repeats a key.
func FuzzKeytab(f *testing.F) {
	f.Add(keytabOf(entryOf("MAIL$", 300, 18, 32)))
	f.Add([]byte{5, 1, 10, 0, 0, 0, 2, 0, 1, 0, 'R', 1, 0, 'a', 0, 0})
	f.Add([]byte{5, 2, 0x80, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parseKeytab(b)
		if err != nil && err != errKeytab {
			t.Errorf("%v", err)
		}
		if err != nil {
			return
		}
		again, err := parseKeytab(keytabOf(entries...))
		if err != nil || len(again) != len(entries) {
			t.Errorf("%d entries, written and read %d: %v", len(entries), len(again), err)
		}
	})
}
