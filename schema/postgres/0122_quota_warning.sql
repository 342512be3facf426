-- Additive: programs that do not know it go on working.
-- Who has been warned that a mailbox is nearly full, so that nobody is told twice
-- before there was room again.
-- Locks taken: none on existing tables.

create table quota_warning (
  account_id bigint      primary key,
  threshold  bigint      not null,                    -- octets above which the person was warned
  used       bigint      not null,                    -- octets at that time
  warned_at  timestamptz not null default now()
  -- Grant: select, insert, update, delete
);

-- Whose turn it is to look. One row.
create table quota_round (
  name       text        primary key,                 -- 'warning'
  started_at timestamptz not null
  -- Grant: select, insert, update
);
