-- Additive: programs that do not know it go on working.
-- Passwords that we issue for mail programs, as keys of SCRAM-SHA-256 (RFC 5802).
-- Locks taken: none on existing tables.

-- What all of them have in common: one row that never changes, since the keys below
-- are made with it.
create table app_password_scram (
  id         smallint    primary key check (id = 1),
  salt       bytea       not null,
  iterations integer     not null check (iterations between 4096 and 100000) -- RFC 7677 §4
  -- Grant: select
);
insert into app_password_scram (id, salt, iterations)
values (1, uuid_send(gen_random_uuid()), 4096);

create table app_password (
  id              bigint      primary key,
  person          text        not null,               -- directory key
  name            text        not null,               -- of the program, for its owner
  services        text[]      not null,               -- imap, pop3, submission, sieve; empty: all of them
  created_at      timestamptz not null default now(),
  created_by      text        not null,               -- who made it, in words
  expires_at      timestamptz,                        -- null: never
  last_used_at    timestamptz,                        -- null: never; up to a minute behind
  last_client     inet,
  last_service    text        not null default '',
  stored_key      bytea       not null,               -- StoredKey and ServerKey of the password as it was shown, with dashes
  server_key      bytea       not null,
  bare_stored_key bytea       not null,               -- and of the same without dashes
  bare_server_key bytea       not null
  -- Grant: select, insert, update, delete
);
create unique index app_password_name on app_password (person, lower(name));
create index app_password_expires on app_password (expires_at) where expires_at is not null;
