package postgres

import (
	"net/url"
	"os"
	"slices"
	"strings"
)

// fileParameters are those parameters of a connection that name a file, with the
// variable of the environment that stands for each (libpq, "Connection Strings" and
// "Environment Variables").
var fileParameters = map[string]string{
	"passfile": "PGPASSFILE", "servicefile": "PGSERVICEFILE",
	"sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
}

// Files returns the files that connecting reads by name: passwords, certificates, the
// file of services; sorted. Those that libpq looks for in the home directory by
// itself are not among them.
func (c Config) Files() []string {
	named := parameters(c.URL)
	var all []string
	for parameter, variable := range fileParameters {
		path := named[parameter]
		if path == "" {
			path = os.Getenv(variable)
		}
		if strings.HasPrefix(path, "/") { // sslrootcert=system is no file
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// parameters are those of a connection URL or keyword/value string; what cannot be
// read has none.
func parameters(text string) map[string]string {
	all := make(map[string]string)
	if u, err := url.Parse(text); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		for k, v := range u.Query() {
			all[k] = v[len(v)-1]
		}
		return all
	}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		key, rest, ok := strings.Cut(text, "=")
		if !ok {
			return all
		}
		var value strings.Builder
		rest = strings.TrimLeft(rest, " \t\n")
		rest, quoted := strings.CutPrefix(rest, "'")
		i := 0
		for ; i < len(rest); i++ {
			if rest[i] == '\\' && i+1 < len(rest) {
				i++
			} else if quoted && rest[i] == '\'' || !quoted && strings.IndexByte(" \t\n", rest[i]) >= 0 {
				break
			}
			value.WriteByte(rest[i])
		}
		all[strings.TrimSpace(key)] = value.String()
		text = rest[min(i+1, len(rest)):]
	}
	return all
}
