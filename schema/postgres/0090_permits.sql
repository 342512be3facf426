-- Additive: programs that do not know it go on working.
-- Permits: how many passwords of a person may still be judged by the directory
-- before it would lock the account, counted by all nodes together; and what the
-- nodes know of those who guess.
-- Locks taken: none on existing tables.
--
-- No password stands here, nor a hash that could be compared with anything outside:
-- hashes are HMACs under a key that is made of the sealing key, which is not in the
-- database. Rules. A permit is taken before the directory is asked (pending) and
-- settled afterwards; one that nobody settles within two minutes counts as a wrong
-- password. Rows of several people are locked in the order of their keys.

create table auth_permit (
  person     text        primary key,                 -- <directory>:<uuid>
  wrong      int         not null default 0,          -- wrong passwords that count
  pending    int         not null default 0,          -- permits that are in use
  strangers  int         not null default 0,          -- wrong + pending must stay below it for a stranger to get one
  everybody  int         not null default 0,          -- the same for logins that we have reason to believe
  wrong_at   timestamptz not null default '-infinity', -- the last wrong one
  pending_at timestamptz not null default '-infinity', -- the last permit
  expires_at timestamptz not null default '-infinity', -- then wrong counts no more
  counted    bigint      not null default 0,          -- wrong passwords that were ever counted
  -- What is shown to administrators: since the last hour without any.
  tried      bigint      not null default 0,          -- wrong logins
  refused    bigint      not null default 0,          -- of them without asking the directory
  tried_from timestamptz not null default now(),
  tried_at   timestamptz not null default '-infinity'
  -- Grant: select, insert, update, delete
  -- Grant read: select
) with (fillfactor = 70);

-- Where people have logged in from.
create table auth_familiar (
  person  text        not null,                       -- <directory>:<uuid>
  mark    bytea       not null,                       -- HMAC of person and network or certificate
  last_at timestamptz not null default now(),         -- last login, as of some hours
  primary key (person, mark)
  -- Grant: select, insert, update, delete
);
create index auth_familiar_last on auth_familiar (last_at);

-- Passwords that were wrong.
create table auth_refused (
  hash   bytea       primary key,                     -- HMAC of person, state of the entry and password
  person text        not null,                        -- <directory>:<uuid>
  until  timestamptz not null
  -- Grant: select, insert, update, delete
);
create index auth_refused_until on auth_refused (until);

-- Passwords that failed for several people.
create table auth_spray (
  hash     bytea       primary key,                   -- HMAC of the password
  accounts bigint[]    not null,                      -- HMACs of the names that it was tried with; no more than are needed to decide
  tries    bigint      not null,
  since    timestamptz not null default now(),
  last_at  timestamptz not null default now(),
  until    timestamptz                                -- refused to strangers; null: not yet
  -- Grant: select, insert, update, delete
  -- Grant read: select
);

-- Who guesses: wrong logins by client.
create table auth_source (
  network cidr        primary key,                    -- an IPv4 address, an IPv6 /64
  wrong   bigint      not null,                       -- wrong logins of the hour
  refused bigint      not null,                       -- of them without asking the directory
  hour    timestamptz not null,                       -- beginning of that hour
  last_at timestamptz not null
  -- Grant: select, insert, update, delete
  -- Grant read: select
);

-- How logins went, by minute.
create table auth_activity (
  minute   timestamptz primary key,
  entered  bigint not null,                           -- people who were let in
  familiar bigint not null,                           -- of them with a password judged that came from where they had been before
  wrong    bigint not null,                           -- wrong logins, the same password again not counted
  refused  bigint not null,                           -- of them without asking the directory
  repeated bigint not null,                           -- the same wrong password again
  arrived  bigint not null default 0                  -- people who were let in from a new place
  -- Grant: select, insert, update, delete
  -- Grant read: select
);

-- Takes a permit for a password of a person. at_home says that the node knows the
-- place, marks are where it would be found here. theirs is what the directory itself
-- counts now; it is not kept, since somebody may end it there. outcome: 0 none is
-- left, 1 taken, 2 this password was wrong already. in_use is how many may come back
-- soon. seen is how many wrong ones were ever counted until now.
create function auth_permit_take(who text, at_home boolean, marks bytea[], refusal bytea, most_strangers int, most_everybody int, span interval,
  theirs int, familiar_for interval, out outcome int, out familiar boolean, out in_use int, out seen bigint)
language plpgsql set enable_seqscan = off as $$
declare
  at timestamptz := clock_timestamp();
  most int;
  p auth_permit;
begin
  in_use := 0;
  seen := 0;
  familiar := at_home or exists (select from auth_familiar f where f.person = who and f.mark = any (marks) and f.last_at > at - familiar_for);
  if exists (select from auth_refused r where r.hash = refusal and r.until > at) then
    outcome := 2;
    return;
  end if;
  most := case when familiar then most_everybody else most_strangers end;
  -- Most who guess find nothing left, and need no lock to see it.
  select * into p from auth_permit a where a.person = who;
  if found and p.wrong >= most and p.expires_at > at or theirs >= most then
    outcome := 0;
    return;
  end if;
  if not found then
    insert into auth_permit (person) values (who) on conflict do nothing;
  end if;
  select * into p from auth_permit a where a.person = who for update;
  if p.pending > 0 and p.pending_at < at - interval '2 minutes' then
    p.counted := p.counted + p.pending;
    p.wrong := p.pending + case when p.expires_at > p.pending_at then p.wrong else 0 end;
    p.wrong_at := p.pending_at + interval '2 minutes';
    p.expires_at := p.wrong_at + span;
    p.pending := 0;
  end if;
  if p.expires_at <= at then
    p.wrong := 0;
  end if;
  if greatest(p.wrong, theirs) + p.pending < most then
    outcome := 1;
    seen := p.counted;
    p.pending := p.pending + 1;
    p.pending_at := at;
  else
    outcome := 0;
    in_use := p.pending;
  end if;
  update auth_permit a
     set wrong = p.wrong, counted = p.counted, pending = p.pending, strangers = most_strangers, everybody = most_everybody,
         wrong_at = p.wrong_at, pending_at = p.pending_at, expires_at = p.expires_at
   where a.person = who;
end $$;

-- Settles a permit. verdict: 0 the password was not judged, 1 it was right, 2 it
-- was wrong. A right one makes the directory forget those before it: those that were
-- counted when its permit was taken, seen. Others may have been judged after it.
-- was_taken is false where no permit was needed: then only wrong passwords are
-- counted. Returns how many wrong ones count now.
create function auth_permit_settle(who text, verdict int, was_taken boolean, seen bigint, refusal bytea, refusal_for interval, span interval) returns int
language plpgsql set enable_seqscan = off as $$
declare
  at timestamptz := clock_timestamp();
  n int;
begin
  if not was_taken and verdict = 2 then
    insert into auth_permit (person) values (who) on conflict do nothing;
  end if;
  update auth_permit a
     set pending = greatest(a.pending - was_taken::int, 0),
         wrong = case verdict
                   when 1 then greatest(least(a.wrong, a.counted - seen), 0)
                   when 2 then 1 + case when a.expires_at > at then a.wrong else 0 end
                   else a.wrong
                 end,
         counted = a.counted + (verdict = 2)::int,
         wrong_at = case verdict when 2 then at else a.wrong_at end,
         expires_at = case verdict when 2 then at + span else a.expires_at end
   where a.person = who
  returning a.wrong into n;
  if verdict = 2 and refusal is not null then
    insert into auth_refused (hash, person, until)
    values (refusal, who, at + refusal_for)
        on conflict (hash) do update set until = excluded.until;
  end if;
  return coalesce(n, 0);
end $$;

-- Remembers where a person has logged in from: at most so many places.
create function auth_familiar_add(who text, new_marks bytea[], at_most int) returns void
language plpgsql set enable_seqscan = off as $$
begin
  insert into auth_familiar (person, mark)
  select who, m from unnest(new_marks) m order by m
      on conflict (person, mark) do update set last_at = now();
  delete from auth_familiar f
   where f.person = who
     and f.mark in (select o.mark from auth_familiar o where o.person = who order by o.last_at desc, o.mark offset at_most);
end $$;

-- Counts a password that failed for several people. Returns until when it is
-- refused to strangers, null for not yet.
create function auth_spray_add(password bytea, names bigint[], times bigint, enough int, span interval) returns timestamptz
language plpgsql set enable_seqscan = off as $$
declare
  end_at timestamptz;
begin
  insert into auth_spray as s (hash, accounts, tries)
  values (password, names[1:enough], times)
      on conflict (hash) do update
     set accounts = case when s.last_at < now() - span then names[1:enough]
                         when cardinality(s.accounts) >= enough then s.accounts
                         else (select (array_agg(distinct n))[1:enough] from unnest(s.accounts || names) n) end,
         tries = case when s.last_at < now() - span then 0 else s.tries end + times,
         since = case when s.last_at < now() - span then now() else s.since end,
         last_at = now();
  update auth_spray s
     set until = now() + span
   where s.hash = password and cardinality(s.accounts) >= enough
  returning s.until into end_at;
  return end_at;
end $$;

-- Forgets what counts no more, and what is too much.
create function auth_permit_purge(familiar_for interval, most int) returns void
language plpgsql as $$
begin
  delete from auth_permit a
   where a.expires_at < now() and a.pending_at < now() - interval '1 hour' and a.tried_at < now() - interval '1 day';
  delete from auth_familiar f where f.last_at < now() - familiar_for;
  delete from auth_refused r where r.until < now();
  delete from auth_refused r where r.hash in (select o.hash from auth_refused o order by o.until desc, o.hash offset most);
  delete from auth_spray s where s.last_at < now() - interval '1 day' and coalesce(s.until, '-infinity') < now();
  delete from auth_spray s where s.hash in (select o.hash from auth_spray o order by o.until desc nulls last, cardinality(o.accounts) desc, o.last_at desc, o.hash offset most);
  delete from auth_source s where s.last_at < now() - interval '1 day';
  delete from auth_source s where s.network in (select o.network from auth_source o order by o.last_at desc, o.network offset most);
  delete from auth_activity m where m.minute < now() - interval '7 days';
end $$;
