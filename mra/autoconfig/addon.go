package autoconfig

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
)

// addOn is the manifest of an add-on by which Thunderbird (140 and later) gets tokens
// for our servers. It has no code and asks for no permission.
type addOn struct {
	ManifestVersion int           `json:"manifest_version"`
	Name            string        `json:"name"`
	Version         string        `json:"version"`
	Description     string        `json:"description"`
	Settings        addOnSettings `json:"browser_specific_settings"`
	OAuth           addOnOAuth    `json:"oauth_provider"`
}

type addOnSettings struct {
	Gecko struct {
		ID         string `json:"id"`
		MinVersion string `json:"strict_min_version"`
	} `json:"gecko"`
}

type addOnOAuth struct {
	Issuer        string   `json:"issuer"` // its name in the password manager
	ClientID      string   `json:"clientId"`
	Authorization string   `json:"authorizationEndpoint"`
	Token         string   `json:"tokenEndpoint"`
	Redirection   string   `json:"redirectionEndpoint"`
	PKCE          bool     `json:"usePKCE"` // RFC 7636: a public client has nothing else
	Hostnames     []string `json:"hostnames"`
	Scopes        string   `json:"scopes"`
}

// redirection is where the issuer sends the user back, which Thunderbird catches: it
// opens no port. The client must be registered with it. Not http://localhost: from
// there Thunderbird 153 went on to https, which it did not know again.
const redirection = "https://localhost"

// thunderbirdAddOn answers with the add-on, for a policy to install.
func (s *Service) thunderbirdAddOn(w http.ResponseWriter, _ *http.Request) {
	file, err := s.addOn()
	if err != nil { // of types of this package, into memory
		http.Error(w, "The add-on cannot be written.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-xpinstall")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(file) // the client has left
}

// addOn writes the add-on: an archive of its manifest.
func (s *Service) addOn() ([]byte, error) {
	o := s.config.OAuth
	// The issuer is named by our own host: Thunderbird refuses an add-on that names one
	// of those which are built into it, such as Microsoft's.
	m := addOn{ManifestVersion: 2, Name: s.config.Organisation + " mail", Version: "1.0",
		Description: "Log in to " + s.config.Hostname + " by single sign-on.",
		OAuth: addOnOAuth{Issuer: s.config.Hostname, ClientID: o.ClientID, Authorization: o.Authorization, Token: o.Token,
			Redirection: redirection, PKCE: true, Hostnames: []string{s.config.Hostname}, Scopes: strings.Join(o.Scope, " ")},
	}
	m.Settings.Gecko.ID, m.Settings.Gecko.MinVersion = AddOnID(s.config.Hostname), "140.0"
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.Create("manifest.json")
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(manifest); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// AddOnID is the name of Thunderbird's add-on for a host, by which a policy installs
// it.
func AddOnID(hostname string) string { return "login@" + hostname }
