-- Signing keys of our domains (RFC 6376).
-- Locks taken: none on existing tables.

create table dkim_key (
  domain      text        not null,                   -- d=, A-labels
  selector    text        not null,                   -- s=
  algorithm   text        not null check (algorithm in ('rsa-sha256', 'ed25519-sha256')),
  public_key  text        not null,                   -- p= of the record in DNS
  private_key bytea       not null,                   -- PKCS #8, sealed for this row
  created_at  timestamptz not null default now(),
  active_at   timestamptz,                            -- signs since; null: not yet, the record must be in DNS first
  retired_at  timestamptz,                            -- signs no more; the record stays in DNS for some days
  primary key (domain, selector)
  -- Grant: select, insert, update, delete
);
-- One key of each algorithm signs for a domain.
create unique index dkim_key_active on dkim_key (domain, algorithm) where active_at is not null and retired_at is null;
