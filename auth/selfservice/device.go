package selfservice

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"dirpost/auth"
)

const (
	// deviceCookie is by what a browser is known again. It lets nobody in: a login by
	// it is one of somebody who was here before (package permit).
	deviceCookie = "__Host-dirpost-device"
	devicePrefix = "cookie:"
	// deviceFor is how long a browser keeps it after the last login.
	deviceFor = 60 * 24 * time.Hour
)

// device is the browser of a request: the one that it says it is, else a new one.
func device(r *http.Request) auth.Device {
	if c, err := r.Cookie(deviceCookie); err == nil {
		if id, err := base64.RawURLEncoding.DecodeString(c.Value); err == nil && len(id) == idSize {
			return auth.Device{ID: devicePrefix + string(id), Returned: true, Lasting: true}
		}
	}
	id := make([]byte, idSize)
	rand.Read(id) // never fails (crypto/rand)
	return auth.Device{ID: devicePrefix + string(id), Lasting: true}
}

// setDevice lets the browser keep what it is known by, for as long again.
func (c *call) setDevice() {
	id := strings.TrimPrefix(c.conn.Device.ID, devicePrefix)
	http.SetCookie(c.w, &http.Cookie{
		Name: deviceCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(id)), Path: "/", MaxAge: int(deviceFor / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}
