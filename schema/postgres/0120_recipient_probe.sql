-- Additive: programs that do not know it go on working.
-- What another mail system has said about addresses of ours that only it may know.
-- Every node asks it here first. Rows end by themselves; what is lost is asked again.
-- Locks taken: none on existing tables.

create table recipient_probe (
  next_hop   text        not null,                    -- host[:port] that was asked
  address    text        not null,                    -- in lower case
  known      boolean     not null,                    -- it takes mail for it
  reply      text        not null,                    -- its words
  probed_at  timestamptz not null default now(),
  expires_at timestamptz not null,                    -- what was said does not count any more
  primary key (next_hop, address)
  -- Grant: select, insert, update, delete
);
create index recipient_probe_expires on recipient_probe (expires_at);
