package postgres

import (
	"slices"
	"strings"
	"testing"
)

func TestFiles(t *testing.T) {
	for _, v := range fileParameters {
		t.Setenv(v, "")
	}
	t.Setenv("PGSSLCERT", "/env/client.pem")
	for name, c := range map[string]struct{ url, want string }{
		"url":               {"postgres:///dirpost?host=/run/postgresql&user=dirpost_serve", "/env/client.pem"},
		"url with files":    {"postgresql://u@db/x?sslmode=verify-full&sslrootcert=/etc/ca%20one.pem&passfile=/etc/pass", "/env/client.pem /etc/ca one.pem /etc/pass"},
		"keyword and value": {`host=db passfile = '/etc/it' sslrootcert='/etc/a\'b c.pem' sslcert=/etc/c.pem`, `/etc/a'b c.pem /etc/c.pem /etc/it`},
		"escaped":           {`passfile=/etc/a\ b sslrootcert=system`, "/env/client.pem /etc/a b"},
		"open quote":        {`passfile='/etc/a`, "/env/client.pem /etc/a"},
		"no value":          {"passfile", "/env/client.pem"},
		"ends in =":         {"passfile=", "/env/client.pem"},
	} {
		want := strings.Split(c.want, " /")
		for i := range want[1:] {
			want[i+1] = "/" + want[i+1]
		}
		if got := (Config{URL: c.url}).Files(); !slices.Equal(got, want) {
			t.Errorf("%s: %q gives %q, want %q", name, c.url, got, want)
		}
	}
}
