-- Additive: programs that do not know it go on working.
-- By which profile a directory is read whose configuration leaves the choice to us:
-- it stays, also when what it went by is gone.
-- Locks taken: access exclusive on directory_source, for a moment; no row is
-- rewritten.
alter table directory_source
  add column profile     text,                        -- null: not chosen
  add column profile_why text        not null default '',
  add column profile_at  timestamptz;
