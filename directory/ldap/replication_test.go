package ldap

import (
	"testing"
	"testing/synctest"
	"time"

	"dirpost/directory"
)

func TestReplication(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r replication
		a, b := objectGUID{1}, objectGUID{2}
		check := func(what string, first, second time.Duration, doubtful int) {
			t.Helper()
			if f, s, d := r.behind("first"), r.behind("second"), len(r.doubtful("second", "first")); f != first || s != second || d != doubtful {
				t.Errorf("%s: first %v, second %v behind, %d doubtful, want %v, %v, %d", what, f, s, d, first, second, doubtful)
			}
		}
		r.up("first", true)
		r.told(a, "first")
		check("alone", 0, 0, 0)
		r.up("second", true)
		r.told(a, "second")
		time.Sleep(time.Second)
		check("the second has it", time.Second, 0, 0)
		r.told(b, "first")
		time.Sleep(2 * time.Second)
		check("each has what the other lacks", 3*time.Second, 2*time.Second, 0)
		r.told(a, "first")
		check("one has arrived", 0, 2*time.Second, 0)
		time.Sleep(doubtAfter)
		check("one has not", 0, doubtAfter+2*time.Second, 1)
		r.told(b, "first", "second") // looked for, and found
		check("both have all", 0, 0, 0)
		r.told(a, "first")
		time.Sleep(time.Second)
		r.up("second", false)
		check("the second is away", 0, 0, 0)
	})
}

func TestTakeAway(t *testing.T) {
	t.Parallel()
	u := Config{Name: "corp", Preset: PresetAD, URLs: []string{"ldaps://127.0.0.1"}, Base: "DC=corp,DC=example", Follow: FollowDirSync}
	d := client(t, u).Source(quiet).(*dirsync)
	g, then := objectGUID{1}, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	key := d.key(g.id())
	tests := []struct {
		name  string
		held  held
		login directory.State // as the followed controller has it
		want  directory.State // 0: gone
		kept  bool            // still held afterwards
	}{
		{"nothing", held{}, directory.StateActive, directory.StateActive, false},
		{"disabled", held{login: directory.StateDisabled}, directory.StateActive, directory.StateDisabled, true},
		{"disabled here too", held{login: directory.StateDisabled}, directory.StateDisabled, directory.StateDisabled, false},
		{"locked, disabled here", held{login: directory.StateLocked}, directory.StateDisabled, directory.StateDisabled, false},
		{"expired", held{expires: then}, directory.StateActive, directory.StateExpired, true},
		{"deleted", held{gone: true}, directory.StateActive, 0, true},
		{"password", held{password: then}, directory.StateActive, directory.StateActive, true},
		{"password and disabled here", held{login: directory.StateDisabled, password: then}, directory.StateDisabled, directory.StateDisabled, true},
	}
	for _, tt := range tests {
		d.hold(g, "other", tt.held)
		modified := then.Add(time.Hour)
		changes := []directory.Change{{Key: key, Entry: &directory.Entry{Key: key, Login: tt.login, Modified: modified}}, {Key: "corp:other"}}
		d.takeAway(changes)
		e := changes[0].Entry
		switch {
		case tt.want == 0 && e != nil, tt.want != 0 && (e == nil || e.LoginState(time.Now()) != tt.want):
			t.Errorf("%s: %+v", tt.name, e)
		case e != nil && e.Modified.After(modified) != !tt.held.password.IsZero():
			t.Errorf("%s: modified %v", tt.name, e.Modified)
		}
		if kept := len(d.heldBy("other")) > 0; kept != tt.kept {
			t.Errorf("%s: still held: %v", tt.name, kept)
		}
		d.takeAway([]directory.Change{{Key: key}}) // deleted here too
		if len(d.heldBy("other")) > 0 {
			t.Errorf("%s: held from nobody", tt.name)
		}
	}
}

func TestGUIDs(t *testing.T) {
	t.Parallel()
	u := Config{Name: "corp", Preset: PresetAD, URLs: []string{"ldaps://127.0.0.1"}, Base: "DC=corp,DC=example"}
	d := client(t, u).Source(quiet).(*chosen)
	g := objectGUID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	if back, ok := d.guidOf(d.key(g.id())); !ok || back != g {
		t.Errorf("%x from %s", back, g.id())
	}
	for _, key := range []directory.Key{"", "corp:", "corp:1", "other:" + directory.Key(g.id()), "corp:zz020304-0506-0708-090a-0b0c0d0e0f10"} {
		if _, ok := d.guidOf(key); ok {
			t.Errorf("%q is one", key)
		}
	}
}
