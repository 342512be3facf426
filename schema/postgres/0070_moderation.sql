-- What moderators of lists have been asked: one row for each message that a list
-- holds until one of them answers.
-- Locks taken: none on existing tables.
--
-- The token that stands in the address to answer to is a secret; only its hash is
-- kept here. The first answer decides: it changes the state, and with it the held
-- recipient, in one transaction.

create table moderation (
  token      bytea       primary key,                 -- SHA-256
  queue_id   bigint      not null,                    -- the held message
  n          int         not null,                    -- its recipient: the list
  state      smallint    not null default 0,          -- 0 asked, 1 approved, 2 rejected, 3 nobody answered, 4 decided in the queue
  asked_at   timestamptz not null default now(),
  expires_at timestamptz not null,                    -- then the message goes back to its author
  decided_at timestamptz,
  answer     bigint,                                  -- queue id of the answer that decided
  list_key   text        not null,                    -- directory key of the list
  list       text        not null,                    -- its address
  decided_by text        not null default ''          -- address of the moderator
  -- Grant: select, insert, update, delete
  -- Grant read: select
);
create index moderation_due on moderation (expires_at) where state = 0;
create index moderation_decided on moderation (decided_at) where state <> 0;

-- Returns a held recipient to the sender, with words, or takes it out where the
-- sender must not or will not be told. False if it is not held (any more).
create function outq_return_held(id bigint, nth int, code text, words text, who text) returns boolean
language plpgsql set enable_seqscan = off as $$
declare
  tell boolean;
begin
  -- Whoever takes the last row of a message must see that it is the last.
  select reverse_path <> '' into tell from outq_msg where queue_id = id for update;
  select tell and (o.notify = 0 or o.notify & 4 <> 0) into tell
    from outq o
   where o.queue_id = id and o.n = nth and o.state = 2
     for update;
  if not found then
    return false;
  end if;
  if tell then
    update outq o
       set state = 3, next_at = now(), token = o.token + 1, shard = (id % 64)::smallint, destination = '!', code = 0, dsn = outq_return_held.code, reply = words, relay = who
     where o.queue_id = id and o.n = nth;
  else
    delete from outq o where o.queue_id = id and o.n = nth;
    delete from outq_msg m where m.queue_id = id and not exists (select from outq o where o.queue_id = id);
  end if;
  return true;
end $$;

-- Records a decision (1 approved, 2 rejected, 3 nobody answered) and carries it
-- out. Returns the state that the question has now: another one than verdict if it
-- was decided before, -1 if there is no such question. in_answer names who decides,
-- so that the same decision made again is found done.
create function moderation_decide(hash bytea, verdict smallint, who text, in_answer bigint, words text) returns smallint
language plpgsql set enable_seqscan = off as $$
declare
  q moderation;
  done boolean;
begin
  select * into q from moderation m where m.token = hash for update;
  if not found then
    return -1;
  end if;
  if q.state <> 0 then
    return case when q.answer = in_answer and q.state = verdict then verdict
                when q.state = verdict then 4
                else q.state end;
  end if;
  if verdict = 1 then
    update outq_msg m
       set expires_at = greatest(m.expires_at, now() + interval '1 day')
     where m.queue_id = q.queue_id;
    update outq o
       set state = 0, next_at = now(), token = o.token + 1, reply = ''
     where o.queue_id = q.queue_id and o.n = q.n and o.state = 2;
    done := found;
  else
    done := outq_return_held(q.queue_id, q.n, '5.7.2', words, 'moderator');
  end if;
  update moderation m
     set state = case when done then verdict else 4 end, decided_at = now(), decided_by = who, answer = in_answer
   where m.token = hash;
  return case when done then verdict else 4 end;
end $$;

-- Ends questions that nobody has answered in time, and forgets what was decided
-- long ago. Returns how many have ended.
create function moderation_expire(at_most int, words text, keep interval) returns int
language plpgsql as $$
declare
  hash bytea;
  n int := 0;
begin
  for hash in
    select m.token
      from moderation m
     where m.state = 0 and m.expires_at <= now()
     order by m.expires_at
     limit at_most
       for update skip locked
  loop
    perform moderation_decide(hash, 3::smallint, '', null, words);
    n := n + 1;
  end loop;
  delete from moderation m where m.state <> 0 and m.decided_at < now() - keep;
  return n;
end $$;
