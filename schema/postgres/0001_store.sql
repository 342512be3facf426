-- The message store: accounts, mailboxes, messages, changes.
-- Locks taken: none on existing tables.
--
-- Rules. account_id leads every key, so that a statement touches one account
-- and the tables can be distributed by it. No foreign keys and no triggers:
-- the functions of 0003 keep the rows together, in one transaction each. No
-- index on flags or modseq: a flag change stays a heap-only update. Times are
-- the database's; where a node passes one, it is the database's by offset.

-- The owner of mailboxes: one row per directory entry that ever got mail or
-- logged in. Locked after the mailbox rows of the account, never before.
create table account (
  account_id        bigint      primary key,          -- made by a node, never reused
  used_bytes        bigint      not null default 0,   -- RFC822.SIZE of every message in every mailbox (RFC 9208)
  used_messages     bigint      not null default 0,
  next_uidvalidity  bigint      not null,             -- of the next CREATE; strictly rising (RFC 9051 §2.3.1.1)
  kind              smallint    not null,             -- 1 person, 2 shared
  created_at        timestamptz not null default now(),
  closed_at         timestamptz,                      -- the directory entry is gone: purged when the grace is over
  directory_key     text        not null              -- "<directory>:<uuid>", for ever
  -- Grant: select, insert, update, delete
  -- Grant read: select
) with (fillfactor = 50);                             -- counters are not indexed: every delivery is a heap-only update

-- From the directory's key to the account. Apart from account, because there
-- the id leads.
create table account_key (
  directory_key text   primary key,
  account_id    bigint not null
  -- Grant: select, insert, update, delete
  -- Grant read: select
);

create table mailbox (
  account_id    bigint   not null,
  mailbox_id    bigint   not null,                    -- survives renames; 1 is INBOX
  uidvalidity   bigint   not null,
  uidnext       bigint   not null default 1           -- allocated under this row's lock, held to commit;
                check (uidnext <= 4294967296),        -- a UID has 32 bits
  modseq        bigint   not null default 1,          -- HIGHESTMODSEQ (RFC 7162 §3.1.2.1), likewise
  log_floor     bigint   not null default 1,          -- change_log is complete after this modseq
  recent_uid    bigint   not null default 1,          -- first UID that no session has been told as \Recent
  messages      bigint   not null default 0,
  unseen        bigint   not null default 0,          -- without \Seen
  deleted       bigint   not null default 0,          -- with \Deleted
  bytes         bigint   not null default 0,
  special_use   text     not null default '',         -- RFC 6154 attribute, '' for none
  name          text     not null,                    -- NFC, '/' between levels, 'INBOX' in capitals
  primary key (account_id, mailbox_id),
  unique (account_id, name)
  -- Grant: select, insert, update, delete
  -- Grant read: select
) with (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- LSUB and LIST (SUBSCRIBED): names, with or without a mailbox (RFC 9051 §6.3.7).
create table subscription (
  account_id bigint not null,
  name       text   not null,
  primary key (account_id, name)
  -- Grant: select, insert, delete
);

-- Names of deleted mailboxes, for undelete.
create table deleted_mailbox (
  account_id bigint      not null,
  mailbox_id bigint      not null,
  deleted_at timestamptz not null default now(),
  name       text        not null,
  primary key (account_id, mailbox_id)
  -- Grant: select, insert, delete
);

-- Keywords of an account, so that COPY and MOVE need no translation.
create table keyword (
  account_id bigint   not null,
  bit        smallint not null check (bit between 8 and 62),
  name       text     not null,                       -- as first spelt; compared without case (RFC 9051 §2.3.2)
  primary key (account_id, bit)
  -- Grant: select, insert
);
create unique index keyword_name on keyword (account_id, lower(name));

-- An immutable message of an account, shared by its copies in several
-- mailboxes. The body stands here when it is small, else in a blob.
create table message (
  account_id     bigint      not null,
  message_id     bigint      not null,                -- queue id of a delivered message: a delivery done twice is recognised
  size           bigint      not null,                -- RFC822.SIZE: prepend, header and body
  internal_date  timestamptz not null,
  body_size      bigint      not null,                -- octets, uncompressed
  message_hash   bigint      not null,                -- of Message-ID
  thread_id      bigint      not null,
  body_lines     int         not null,
  header_codec   smallint    not null,                -- 0 raw, 1 zstd
  body_codec     smallint    not null,                -- of body: 0 raw, 1 zstd
  blob_id        uuid,                                -- where the body is, null: in body
  prepend        bytea       not null,                -- header fields of this copy: Return-Path, Delivered-To
  header         bytea       not null,                -- the others, with the empty line; encoded by header_codec
  envelope       bytea       not null,                -- rendered IMAP ENVELOPE
  structure      bytea       not null,                -- MIME tree with octet offsets into the body
  subject        text        not null,                -- normalised, for SEARCH, SORT, THREAD
  sender         text        not null,                -- From, normalised
  recipients     text        not null,                -- To, Cc, Bcc, normalised
  body           bytea,                               -- small body, encoded by body_codec; null: blob
  primary key (account_id, message_id)
  -- Grant: select, insert, delete
);
-- What we compress ourselves is not compressed again, and the rest is too short
-- to pay. A usual message is one row: to store its body apart, in
-- pieces of 2 KB with an index of their own, costs a tenth of a delivery. Rows of
-- more than half a page would leave half of it empty.
alter table message
  alter prepend set storage external,
  alter header set storage external,
  alter envelope set storage external,
  alter structure set storage external,
  alter subject set storage external,
  alter sender set storage external,
  alter recipients set storage external,
  alter body set storage external,
  set (toast_tuple_target = 4080);
-- The collector asks whether a blob is still referred to.
create index message_blob on message (blob_id) where blob_id is not null;

-- A message in a mailbox: narrow, mutable.
create table mailbox_message (
  account_id bigint      not null,
  mailbox_id bigint      not null,
  uid        bigint      not null,
  modseq     bigint      not null,                    -- MODSEQ (RFC 7162 §3.1)
  message_id bigint      not null,
  flags      bigint      not null,                    -- bits 0-7 system, 8-62 keyword.bit
  size       bigint      not null,                    -- of the message, so that counters need no join
  saved_at   timestamptz not null default now(),      -- SAVEDATE (RFC 8514)
  primary key (account_id, mailbox_id, uid)
  -- Grant: select, insert, update, delete
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);

-- What changed, one row per command. New messages are not logged: they are the
-- UIDs from the older UIDNEXT on.
create table change_log (
  account_id bigint         not null,
  mailbox_id bigint         not null,
  modseq     bigint         not null,
  kind       smallint       not null,                 -- 2 flags, 3 expunged
  day        int            not null,                 -- since 1970, for purge
  uids       int8multirange not null,
  primary key (account_id, mailbox_id, modseq)
  -- Grant: select, insert, delete
);

-- What was expunged, until the undelete window is over. Holds the message.
create table expunged (
  account_id  bigint      not null,
  mailbox_id  bigint      not null,
  uid         bigint      not null,
  message_id  bigint      not null,
  flags       bigint      not null,
  size        bigint      not null,
  expunged_at timestamptz not null default now(),
  primary key (account_id, mailbox_id, uid)
  -- Grant: select, insert, delete
);
create index expunged_age on expunged using brin (expunged_at);

-- A cache that any node may rebuild: (uid, flags, modseq) of a large mailbox,
-- packed, as of modseq.
create table mailbox_index (
  account_id bigint not null,
  mailbox_id bigint not null,
  modseq     bigint not null,
  uidnext    bigint not null,
  packed     bytea  not null,
  primary key (account_id, mailbox_id)
  -- Grant: select, insert, update, delete
);
alter table mailbox_index alter packed set storage external;

-- Messages that came within the last 24 h, to recognise a client that repeats
-- because our 250 got lost: hash of reverse-path, Message-ID and body.
create table repeat (
  account_id bigint not null,
  seen_at    bigint not null,                         -- epoch seconds
  key        uuid   not null,
  primary key (account_id, key)
  -- Grant: select, insert, update, delete
);

-- Accounts whose grace is over and whose rows are being purged.
create table dead_account (
  account_id bigint primary key
  -- Grant: select, insert, delete
);
