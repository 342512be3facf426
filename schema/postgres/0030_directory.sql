-- The replica of the directory: what every node decides by, and what it starts
-- from while the directory is away.
-- Locks taken: none on existing tables.

-- Who feeds, and the version of the last change. One row: whoever changes an
-- entry holds its lock, so versions become visible in their order.
create table directory_lease (
  name       text        primary key,                 -- 'directory'
  holder     text        not null,                    -- node, for people to read
  token      bigint      not null,                    -- moves on with each new holder
  expires_at timestamptz not null,
  version    bigint      not null                     -- of the last change
  -- Grant: select, insert, update
) with (fillfactor = 50);

-- How far each directory has been read.
create table directory_source (
  name         text        primary key,               -- name of the directory in the configuration
  cookie       bytea,                                 -- of the source, null: from the start
  complete     boolean     not null default false,    -- has been read to the end at least once
  confirmed_at timestamptz,                           -- nothing was missing then, ahead for one that polls; null: not known
  problem      text        not null default ''        -- why it cannot be read, for people
  -- Grant: select, insert, update, delete
) with (fillfactor = 50);

-- Every entry as it is now.
create table directory_entry (
  key        text        primary key,                 -- <directory>:<uuid>
  version    bigint      not null,
  packed     bytea,                                   -- null: gone
  changed_at timestamptz not null default now()
  -- Grant: select, insert, update, delete
) with (fillfactor = 80);
create index directory_entry_version on directory_entry (version);

-- Every entry as it was, so that a decision of last Tuesday can be explained.
create table directory_history (
  key     text        not null,
  version bigint      not null,
  packed  bytea,
  since   timestamptz not null,
  until   timestamptz not null,
  primary key (key, version)
  -- Grant: select, insert, delete
);
create index directory_history_until on directory_history (until);
