-- Additive: programs that do not know it go on working.
-- Sessions of the self-service page, of all nodes.
-- Locks taken: none on existing tables.
--
-- The cookie is a secret; only its hash is kept here.

create table page_session (
  id_hash    bytea       primary key,                 -- SHA-256 of what the cookie holds
  person     text        not null,                    -- key of the person
  authcid    text        not null,                    -- the login name, as typed
  mechanism  text        not null,                    -- by which the person has logged in
  strong     boolean     not null,                    -- logged in in a way that needs no second factor
  half       boolean     not null,                    -- a second factor must be shown before anything else
  client     text        not null,                    -- address
  agent      text        not null,                    -- what the browser says of itself, shortened
  created_at timestamptz not null default now(),
  seen_at    timestamptz not null default now(),      -- to the minute
  proved_at  timestamptz not null default now(),      -- when the person last showed who it is
  factor_at  timestamptz,                             -- when the second factor was last shown; null: not yet
  pending    bytea                                    -- what a form that is under way will need: an enrolment, a challenge
  -- Grant: select, insert, update, delete
);
create index page_session_person on page_session (person);
create index page_session_seen on page_session (seen_at);
