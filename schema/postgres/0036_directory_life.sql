-- What the feeder keeps about directories: how the last comparison ended, what an
-- administrator asks for, and what is held back by the brake.
-- Locks taken: access exclusive on directory_source, for a moment.

alter table directory_source
  add column late             boolean not null default false, -- others had been read before it was configured
  add column compared_at      timestamptz,                    -- end of the last comparison with the whole directory
  add column compared_changes bigint not null default 0,      -- what it has found
  add column changed_at       timestamptz,                    -- last change of an entry
  add column sync_asked_at    timestamptz,                    -- somebody wants it compared; null: nobody
  add column release_asked_at timestamptz;                    -- somebody believes what is held back until then; null: nobody

-- Entries that would vanish or lose their address together with many others. They
-- stay as they were until somebody releases them or they come back.
create table directory_braked (
  key       text        primary key,                  -- <directory>:<uuid>
  directory text        not null,                     -- name in the configuration
  packed    bytea,                                    -- what the directory says of the entry now; null: it is gone
  since     timestamptz not null default now()
  -- Grant: select, insert, update, delete
);
create index directory_braked_directory on directory_braked (directory);
