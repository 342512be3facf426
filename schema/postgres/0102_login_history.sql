-- Additive: programs that do not know it go on working.
-- From where people have logged in, for themselves to look at, and what they are
-- told about their login by mail.
-- Locks taken: none on existing tables.

-- One row for a program on a device, more or less: many logins, one row.
create table auth_login (
  person    text        not null,                     -- key of the person
  protocol  text        not null,                     -- imap, submission, http, ...
  mechanism text        not null,
  client    inet        not null,
  first_at  timestamptz not null default now(),
  last_at   timestamptz not null default now(),
  logins    bigint      not null,
  primary key (person, protocol, mechanism, client)
  -- Grant: select, insert, update, delete
);
create index auth_login_last on auth_login (last_at);

-- The networks of these clients, kept longer: one that is not here is new.
create table auth_network (
  person   text        not null,
  network  cidr        not null,                      -- /24, /48
  first_at timestamptz not null default now(),
  last_at  timestamptz not null default now(),
  primary key (person, network)
  -- Grant: select, insert, update, delete
);
create index auth_network_last on auth_network (last_at);

-- One row a person and kind: what is to be told, or when it was told last.
create table auth_notice (
  person   text        not null,
  kind     text        not null,
  lines    text[]      not null,                      -- to be told; none: all was
  since    timestamptz not null default now(),        -- of the first line
  sent_at  timestamptz,                               -- the last mail of the kind
  primary key (person, kind)
  -- Grant: select, insert, update, delete
);
create index auth_notice_due on auth_notice (since) where lines <> '{}';
create index auth_notice_sent on auth_notice (sent_at);
