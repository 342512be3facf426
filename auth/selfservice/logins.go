package selfservice

import "net/http"

// maxLogins is how many of the last logins are shown.
const maxLogins = 50

// loginRow is one of the last logins.
type loginRow struct {
	Client, What, Last, First string
	Count                     int64
}

// logins shows from where the person has logged in.
func (c *call) logins() error {
	all, err := c.site.deps.History.List(c.r.Context(), c.e.Key, maxLogins)
	if err != nil {
		return err
	}
	var rows []loginRow
	for _, l := range all {
		what, ok := words["logins."+l.Protocol]
		if !ok {
			what = l.Protocol
		}
		rows = append(rows, loginRow{Client: l.Client.String(), What: what + ", " + l.Mechanism, Last: date(l.Last), First: date(l.First), Count: l.Count})
	}
	return c.show(http.StatusOK, "logins", view{Page: rows})
}
