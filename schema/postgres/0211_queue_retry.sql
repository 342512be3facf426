-- Additive: programs that do not know it go on working.
-- When an administrator has last asked that mail be tried at once: what a node
-- remembers from before of places that were away does not count any more.
-- Locks taken: none on existing tables.

create table outq_retry (
  one        boolean     primary key default true check (one),  -- one row
  retried_at timestamptz not null
  -- Grant: select, insert, update
);
