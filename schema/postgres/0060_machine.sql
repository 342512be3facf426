-- The account of this system in a domain of Active Directory, and its keys.
-- Locks taken: none on existing tables.

create table machine_account (
  directory    text        primary key,               -- name of the directory in the configuration
  version      bigint      not null,                  -- another one with every change of account or keys
  domain       text        not null,                  -- DNS name
  realm        text        not null,                  -- Kerberos
  netbios      text        not null,                  -- CORP in CORP\alice
  domain_sid   text        not null,                  -- S-1-5-21-...
  base         text        not null,                  -- DN of the domain
  level        integer     not null,                  -- domainControllerFunctionality
  controller   text        not null,                  -- domain controller that was asked last
  principal    text        not null,                  -- MAIL$
  dn           text        not null,                  -- of the computer account
  host         text        not null,                  -- full name of the mail host
  services     text[]      not null,                  -- servicePrincipalName that we want
  managed      boolean     not null,                  -- we have the password and change it
  ca           text        not null,                  -- PEM of the domain's authorities that were agreed to, '' none
  joined_at    timestamptz not null default now(),
  lease_holder text        not null default '',       -- node that changes the password
  lease_until  timestamptz                            -- null: nobody
  -- Grant: select, insert, update, delete
);

-- Keys of these accounts. What is pending was written down before the domain got
-- it, so it may be the one that works; there may be some before there is an
-- account.
create table machine_key (
  id         bigint      primary key,
  directory  text        not null,
  state      text        not null check (state in ('pending', 'current', 'old')),
  sealed     bytea       not null,                    -- password, salt and keytab, sealed for this row
  kvno       bigint      not null,                    -- of the keytab; of a pending one as expected
  set_at     timestamptz not null default now(),      -- when it was made, or came into use
  retired_at timestamptz                              -- old: since when
  -- Grant: select, insert, update, delete
);
create unique index machine_key_current on machine_key (directory) where state = 'current';
create index machine_key_directory on machine_key (directory);
