package factor

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dirpost/directory"
	"dirpost/internal/postgres"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

const (
	// maxKeys bounds the security keys of a person.
	maxKeys = 10
	// ceremony is how long a person has to touch the key.
	ceremony = 5 * time.Minute
	// maxResponse bounds what a browser sends of a key, in octets.
	maxResponse = 24 << 10
)

// ErrTooManyKeys: a person has as many keys as one may have.
var ErrTooManyKeys = errors.New("second factor: too many security keys")

// Site is the site that keys are for: a key works with no other.
type Site struct {
	Host    string   // the name in the address, of which all origins have it
	Origins []string // https://host[:port]
	Name    string   // for people
}

// UseKeys lets people enrol security keys and passkeys for a site. Without it there
// are none. It is called before the Store is used.
func (s *Store) UseKeys(site Site) error {
	limit := webauthn.TimeoutConfig{Enforce: true, Timeout: ceremony, TimeoutUVD: ceremony}
	web, err := webauthn.New(&webauthn.Config{
		RPID: site.Host, RPOrigins: site.Origins, RPDisplayName: site.Name,
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			// The password was shown already, so a key need not ask for a PIN, and
			// needs no place to keep who the person is.
			UserVerification: protocol.VerificationDiscouraged, ResidentKey: protocol.ResidentKeyRequirementDiscouraged,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: limit, Registration: limit},
	})
	if err != nil {
		return fmt.Errorf("security keys for %s: %w", site.Host, err)
	}
	s.web = web
	return nil
}

// HasKeys reports whether security keys can be used.
func (s *Store) HasKeys() bool { return s.web != nil }

// keyUser is a person to the library.
type keyUser struct {
	person  directory.Key
	address string
	name    string
	keys    []webauthn.Credential
	ids     []int64 // of the rows of keys
}

// WebAuthnID implements webauthn.User: an identifier that says nothing to who reads
// it on a key that was found.
func (u *keyUser) WebAuthnID() []byte {
	sum := sha256.Sum256([]byte("dirpost " + u.person))
	return sum[:]
}

// WebAuthnName implements webauthn.User.
func (u *keyUser) WebAuthnName() string { return u.address }

// WebAuthnDisplayName implements webauthn.User.
func (u *keyUser) WebAuthnDisplayName() string { return u.name }

// WebAuthnCredentials implements webauthn.User.
func (u *keyUser) WebAuthnCredentials() []webauthn.Credential { return u.keys }

const keysSQL = `
select id, credential
  from auth_factor
 where person = $1
   and kind = 'webauthn'
 order by id`

// user reads the keys of a person.
func (s *Store) user(ctx context.Context, e *directory.Entry) (*keyUser, error) {
	u := &keyUser{person: e.Key, address: e.Primary.Unicode(), name: e.DisplayName}
	if u.name == "" {
		u.name = u.address
	}
	rows, err := s.db.Query(ctx, postgres.Interactive, keysSQL, string(e.Key))
	if err != nil {
		return nil, fmt.Errorf("read security keys: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			id  int64
			raw []byte
			key webauthn.Credential
		)
		if err := rows.Scan(&id, &raw); err != nil {
			return nil, fmt.Errorf("read security keys: %w", err)
		}
		if err := json.Unmarshal(raw, &key); err != nil {
			return nil, fmt.Errorf("read security key %d: %w", id, err)
		}
		u.keys, u.ids = append(u.keys, key), append(u.ids, id)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read security keys: %w", err)
	}
	return u, nil
}

// BeginKey begins to enrol a key of e. options are for the browser, pending is to be
// kept on our side for FinishKey.
func (s *Store) BeginKey(ctx context.Context, e *directory.Entry) (options, pending []byte, err error) {
	if s.web == nil {
		return nil, nil, errors.New("second factor: no security keys here")
	}
	u, err := s.user(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	if len(u.keys) >= maxKeys {
		return nil, nil, ErrTooManyKeys
	}
	creation, data, err := s.web.BeginRegistration(u, webauthn.WithExclusions(webauthn.Credentials(u.keys).CredentialDescriptors()))
	if err != nil {
		return nil, nil, fmt.Errorf("begin to enrol a security key: %w", err)
	}
	return marshalBoth(creation, data)
}

func marshalBoth(options, data any) (o, d []byte, err error) {
	if o, err = json.Marshal(options); err == nil {
		d, err = json.Marshal(data)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("second factor: %w", err)
	}
	return o, d, nil
}

// session reads what a Begin has left.
func session(pending []byte) (data webauthn.SessionData, err error) {
	if len(pending) == 0 {
		return data, ErrCode // a form that was sent twice
	}
	if err := json.Unmarshal(pending, &data); err != nil {
		return data, fmt.Errorf("second factor: what was begun: %w", err)
	}
	return data, nil
}

const addKeySQL = `
insert into auth_factor (id, person, kind, name, credential_id, credential)
values ($1, $2, 'webauthn', $3, $4, $5)`

// FinishKey enrols the key that answered what BeginKey began. ErrCode means that the
// answer is not good.
func (s *Store) FinishKey(ctx context.Context, e *directory.Entry, name string, pending, response []byte) error {
	data, err := session(pending)
	if err != nil {
		return err
	}
	u, err := s.user(ctx, e)
	switch {
	case err != nil:
		return err
	case s.web == nil || len(response) > maxResponse:
		return ErrCode
	case len(u.keys) >= maxKeys:
		return ErrTooManyKeys
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCode, err)
	}
	key, err := s.web.CreateCredential(u, data, parsed)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCode, err)
	}
	raw, err := json.Marshal(key)
	if err != nil {
		return fmt.Errorf("add security key: %w", err)
	}
	_, err = s.db.Exec(ctx, postgres.Interactive, addKeySQL, s.db.NewID(), string(e.Key), Name(name), key.ID, raw)
	if state, _ := postgres.State(err); state == postgres.UniqueViolation {
		return ErrExists
	}
	if err != nil {
		return fmt.Errorf("add security key: %w", err)
	}
	return nil
}

// BeginCheck asks the keys of e to show themselves. It returns nothing where there
// are none.
func (s *Store) BeginCheck(ctx context.Context, e *directory.Entry) (options, pending []byte, err error) {
	if s.web == nil {
		return nil, nil, nil
	}
	u, err := s.user(ctx, e)
	if err != nil || len(u.keys) == 0 {
		return nil, nil, err
	}
	assertion, data, err := s.web.BeginLogin(u)
	if err != nil {
		return nil, nil, fmt.Errorf("ask for a security key: %w", err)
	}
	return marshalBoth(assertion, data)
}

const useKeySQL = `update auth_factor set credential = $3, used_at = now() where id = $1 and person = $2`

// FinishCheck judges the answer of a key to what BeginCheck began. nil means right,
// ErrCode not; any other error that it was not judged.
func (s *Store) FinishCheck(ctx context.Context, e *directory.Entry, pending, response []byte) error {
	if err := s.try(ctx, e.Key); err != nil {
		return err
	}
	data, err := session(pending)
	if err != nil {
		return err
	}
	u, err := s.user(ctx, e)
	if err != nil {
		return err
	}
	if s.web == nil || len(response) > maxResponse {
		return ErrCode
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCode, err)
	}
	key, err := s.web.ValidateLogin(u, data, parsed)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCode, err)
	}
	if key.Authenticator.CloneWarning { // its counter went back: somebody has a copy
		return fmt.Errorf("%w: the counter of security key %s went back: it was copied", ErrCode, strconv.Quote(string(key.ID)))
	}
	raw, err := json.Marshal(key)
	if err != nil {
		return fmt.Errorf("use security key: %w", err)
	}
	for i := range u.keys {
		if string(u.keys[i].ID) == string(key.ID) {
			if _, err := s.db.Exec(ctx, postgres.Interactive, useKeySQL, u.ids[i], string(e.Key), raw); err != nil {
				return fmt.Errorf("use security key: %w", err)
			}
		}
	}
	return s.right(ctx, e.Key)
}
