-- What the node that feeds a directory says about following it, for people on
-- every node: which server, in which way, and how far the other servers are.
-- Locks taken: access exclusive on directory_source, for a moment; no row is
-- rewritten.
alter table directory_source
  add column status    jsonb,                         -- null: nothing said yet
  add column status_at timestamptz;                   -- when it was said
