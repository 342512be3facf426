-- Additive: programs that do not know it go on working.
-- Devices by which people have logged in: one more kind of mark among those of where
-- they come from.
-- Locks taken: access exclusive on auth_familiar for a moment, which is not rewritten.
--
-- A mark of a device is an HMAC of the person and of a secret that only the client has.
-- It is worth nothing once the password was set after its last_at.

alter table auth_familiar add column device boolean not null default false; -- the mark is that of a device

-- Remembers where a person has logged in from: at most so many places. Devices have a
-- number of their own.
create or replace function auth_familiar_add(who text, new_marks bytea[], at_most int) returns void
language plpgsql set enable_seqscan = off as $$
begin
  insert into auth_familiar (person, mark)
  select who, m from unnest(new_marks) m order by m
      on conflict (person, mark) do update set last_at = now();
  delete from auth_familiar f
   where f.person = who
     and not f.device
     and f.mark in (select o.mark from auth_familiar o where o.person = who and not o.device order by o.last_at desc, o.mark offset at_most);
end $$;

-- Remembers a device by which a person has logged in: at most so many of them.
create function auth_device_add(who text, new_mark bytea, at_most int) returns void
language plpgsql set enable_seqscan = off as $$
begin
  insert into auth_familiar (person, mark, device)
  values (who, new_mark, true)
      on conflict (person, mark) do update set last_at = now();
  delete from auth_familiar f
   where f.person = who
     and f.device
     and f.mark in (select o.mark from auth_familiar o where o.person = who and o.device order by o.last_at desc, o.mark offset at_most);
end $$;

-- Forgets by which devices a person has logged in.
create function auth_device_forget(who text) returns void
language plpgsql set enable_seqscan = off as $$
begin
  delete from auth_familiar f where f.person = who and f.device;
end $$;
