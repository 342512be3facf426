-- Additive: programs that do not know it go on working.
-- Certificates that an authority issues by ACME (RFC 8555), for all nodes.
-- Locks taken: none on existing tables.

create table acme_account (
  directory  text        primary key,              -- URL of the authority's directory
  sealed     bytea       not null,                 -- key of the account, PKCS #8, sealed for this row
  created_at timestamptz not null default now()
  -- Grant: select, insert
);

-- What an authority will ask any of the nodes for. Rows live for minutes.
create table acme_challenge (
  token      text        primary key,
  kind       text        not null check (kind in ('http-01', 'tls-alpn-01')),
  name       text        not null,                 -- host name that is validated
  answer     text        not null,                 -- key authorization (RFC 8555 §8.1)
  made_at    timestamptz not null default now()
  -- Grant: select, insert, delete
);

create table acme_certificate (
  name         text        primary key,            -- host name
  directory    text        not null,               -- URL of the authority's directory
  chain        text        not null default '',    -- PEM, leaf first; '' none yet
  sealed       bytea       not null,               -- key, PKCS #8, sealed for this row
  not_after    timestamptz,                        -- null: none yet
  next_at      timestamptz not null,               -- when it is asked for, or renewed
  failures     integer     not null default 0,     -- in a row
  problem      text        not null default '',    -- what the last one was
  version      bigint      not null default 1,     -- another one with every change of chain or key
  lease_holder text        not null default '',    -- node that talks to the authority
  lease_until  timestamptz                         -- null: nobody
  -- Grant: select, insert, update, delete
);
