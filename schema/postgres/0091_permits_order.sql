-- A right password forgets the wrong ones that were counted before its permit was taken,
-- and no more: one that the directory has judged after it may be settled before it.
-- And how many people come in from where they were not before.
-- Locks taken: access exclusive on auth_permit and auth_activity, for a moment.

alter table auth_permit add column counted bigint not null default 0;  -- wrong passwords that were ever counted
alter table auth_activity add column arrived bigint not null default 0; -- people who were let in from a new place

drop function auth_permit_take(text, boolean, bytea[], bytea, int, int, interval, int, interval);
drop function auth_permit_settle(text, int, boolean, bytea, interval, interval);

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
