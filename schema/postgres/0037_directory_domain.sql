-- Which domains an administrator has confirmed, seeing whose mailboxes are here.
-- A domain that is not in it takes no mail.
-- Locks taken: none on existing tables.

create table directory_domain (
  domain       text        primary key,               -- A-labels
  placement    text        not null,                  -- hash of the rules that say whose mailbox is where
  here         integer     not null,                  -- what was seen: mailboxes here,
  elsewhere    integer     not null,                  -- and in another system,
  nowhere      integer     not null,                  -- people without one,
  lists        integer     not null,
  contacts     integer     not null,
  confirmed_at timestamptz not null default now(),
  confirmed_by text        not null                   -- user of the operating system, for people to read
  -- Grant: select, insert, update
);
