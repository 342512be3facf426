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
  codec   smallint not null,                          -- 0 raw, 1 zstd, 2 S2
  data    bytea    not null,
  primary key (blob_id, seq)
  -- Grant: select, insert, delete
);
alter table blob_chunk alter data set storage external;

-- Bodies that are streaming in. A row older than a day is an upload that broke
-- off: the collector takes its chunks.
create table blob_upload (
  blob_id    uuid   primary key,
  started_at bigint not null                          -- epoch seconds
  -- Grant: select, insert, delete
);

-- put_blob gives the content with hash h a blob and returns its id: b, or that
-- of an older one with the same content, which is touched. cod and dat are the
-- only chunk, null when the chunks were written before.
create function put_blob(b uuid, h bytea, sz bigint, now_s bigint, cod smallint, dat bytea) returns uuid
language plpgsql as $$
declare
  known uuid;
begin
  insert into blob (blob_id, size, last_use, hash)
  values (b, sz, now_s, h)
      on conflict (hash) do update
     set last_use = excluded.last_use
   where blob.last_use < excluded.last_use - 3600
  returning blob.blob_id into known;
  if known is null then                               -- known and touched lately: nothing to write
    select blob.blob_id into strict known from blob where blob.hash = h;
  end if;
  if dat is null then
    delete from blob_upload where blob_upload.blob_id = b;
    if known <> b then
      delete from blob_chunk where blob_chunk.blob_id = b;
    end if;
  elsif known = b then
    insert into blob_chunk (blob_id, seq, codec, data)
    values (b, 0, cod, dat);
  end if;
  return known;
end $$;
