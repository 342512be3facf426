-- Large bodies, stored once for all recipients of a message and its queue rows.
-- Locks taken: none on existing tables.

-- A complete body. No counter of references: a reference is made only after
-- the row was touched, and the collector takes what was not touched for a day
-- and is not referred to.
create table blob (
  blob_id  uuid   primary key,                        -- UUIDv7, chosen when the upload began
  size     bigint not null,                           -- octets, uncompressed
  last_use bigint not null,                           -- epoch seconds
  hash     bytea  not null unique                     -- SHA-256 of the octets
  -- Grant: select, insert, update, delete
) with (fillfactor = 80);

-- 256 KiB of the body each, uncompressed; written while the message streams in,
-- before its hash is known.
create table blob_chunk (
  blob_id uuid     not null,
  seq     int      not null,                          -- offset / 262144
  codec   smallint not null,                          -- 0 raw, 1 zstd
  data    bytea    not null,
  primary key (blob_id, seq)
  -- Grant: select, insert, delete
);
alter table blob_chunk alter data set storage external;
