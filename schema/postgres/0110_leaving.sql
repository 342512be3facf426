-- Additive: programs that do not know it go on working.
-- Who has submitted mail that is in the queue, and whom we have told that their
-- password is going to expire.
-- Locks taken: none on existing tables.

-- The authors of queued mail, where mail of people who have left is to be held. A row
-- is of use as long as its message is in the queue and nobody has released it; it
-- goes with the next purge.
create table outq_author (
  queue_id bigint not null primary key,
  person   text   not null                            -- directory key
  -- Grant: select, insert, delete
  -- Grant read: select
);

-- Warnings before a password expires: each mark of days is told once for each end.
create table password_warning (
  person     text        not null,                    -- directory key
  expires_at timestamptz not null,                    -- of the password, as it was then
  days       int         not null,                    -- the mark: 14, 7, …
  told_at    timestamptz not null default now(),
  primary key (person, expires_at, days)
  -- Grant: select, insert, delete
  -- Grant read: select
);
create index password_warning_old on password_warning (expires_at);

-- When somebody looks next whom to warn; while a node does it, when its lease ends.
create table password_warning_run (
  one     boolean     primary key default true check (one),
  next_at timestamptz not null default '-infinity'
  -- Grant: select, update
);
insert into password_warning_run default values;
