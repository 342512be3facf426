-- Additive: programs that do not know it go on working.
-- Kerberos tokens that were used, on all nodes: none is taken twice.
-- Locks taken: none on existing tables.
--
-- The table is unlogged: it is of use for minutes, and a login must not wait for the
-- disk for it. After a crash it is empty.

create unlogged table auth_ticket (
  token   bytea       primary key,                    -- half of the SHA-256 of the authenticator as it was encrypted
  used_at timestamptz not null default now()
  -- Grant: select, insert, update, delete
);
create index auth_ticket_used on auth_ticket (used_at);

-- Remembers a token. Returns whether nobody has used it before.
create function auth_ticket_first(new_token bytea) returns boolean
language plpgsql as $$
begin
  insert into auth_ticket (token) values (new_token) on conflict do nothing;
  return found;
end $$;
