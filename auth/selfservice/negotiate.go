package selfservice

import (
	"errors"
	"net/http"
	"strings"

	"dirpost/auth"
	"dirpost/internal/envelope"
)

// negotiate lets a browser show a Kerberos ticket (RFC 4559 §4). handled says that the
// request is answered. Else the page that asks for a password follows, with the code
// and the alert: a browser with a ticket repeats its request and never shows it.
func (c *call) negotiate(to string) (handled bool, code int, alert string, err error) {
	bridge := c.site.deps.Bridge
	if !bridge.OffersNegotiate(c.conn) {
		return false, http.StatusOK, "", nil
	}
	authorization := c.r.Header.Get("Authorization")
	scheme, _, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Negotiate") {
		c.w.Header().Set("WWW-Authenticate", "Negotiate")
		return false, http.StatusUnauthorized, "", nil
	}
	id, reply, err := bridge.NegotiateHTTP(c.r.Context(), c.conn, authorization)
	if err == nil && id == nil { // the client has to go on, on this connection
		c.w.Header().Set("WWW-Authenticate", reply)
		return false, http.StatusUnauthorized, "", nil
	}
	if err == nil && (!isOwner(id) || c.s != nil && id.Person != c.s.person) {
		err = auth.ErrCredentials
	}
	if err != nil {
		// Asked again, a browser would send the same ticket again.
		code, word := loginWord(err)
		if errors.Is(err, auth.ErrMalformed) || !envelope.StatusOf(err).IsTemporary() && word == "login.refused" {
			word = "login.ticket"
		}
		return false, code, say(word), nil
	}
	if reply != "" {
		c.w.Header().Set("WWW-Authenticate", reply)
	}
	strong := bridge.Door(c.conn) == auth.Inside
	return true, 0, "", c.enter(&session{person: id.Person, authcid: id.Authcid, mechanism: id.Mechanism, strong: strong}, to)
}
