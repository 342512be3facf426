-- Additive: programs that do not know it go on working.
-- Second factors of people: authenticator apps (RFC 6238), security keys and passkeys
-- (WebAuthn), and codes for when none of them is at hand.
-- Locks taken: none on existing tables.

create table auth_factor (
  id            bigint      primary key,
  person        text        not null,                 -- key of the person
  kind          text        not null check (kind in ('totp', 'webauthn')),
  name          text        not null,                 -- what the person calls it
  sealed        bytea,                                -- totp: the secret, sealed for this row
  last_step     bigint      not null default 0,       -- totp: the step of the last code that was taken; none is taken twice
  credential_id bytea       unique,                   -- webauthn
  credential    bytea,                                -- webauthn: public key, counter and flags
  created_at    timestamptz not null default now(),
  used_at       timestamptz                           -- null: never
  -- Grant: select, insert, update, delete
);
create index auth_factor_person on auth_factor (person);
create unique index auth_factor_totp on auth_factor (person) where kind = 'totp';

create table auth_recovery (
  person     text        not null,
  hash       bytea       not null,                    -- SHA-256 of a code of 80 random bits
  created_at timestamptz not null default now(),
  primary key (person, hash)
  -- Grant: select, insert, update, delete
);

-- How many codes were tried since the last right one.
create table auth_factor_guess (
  person text        primary key,
  tried  int         not null,
  since  timestamptz not null                         -- of the first of them
  -- Grant: select, insert, update, delete
);
create index auth_factor_guess_since on auth_factor_guess (since);
