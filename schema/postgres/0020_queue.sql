-- The mail queue: one immutable row per message, one row per recipient with a
-- schedule of its own.
-- Locks taken: none on existing tables.
--
-- Rules. A recipient row is leased by moving next_at into the future and token
-- up; who settles must show the token, so a node that lost its lease changes
-- nothing. A message is finished when no recipient row is left: its row is
-- locked before the last one may go, and goes with it. No transaction is open
-- while mail is sent. All times are the database's.

create table outq_msg (
  queue_id     bigint      primary key,
  accepted_at  timestamptz not null default now(),
  expires_at   timestamptz not null,                  -- then the sender is told that it failed
  body_size    bigint      not null,                  -- octets after the empty line, uncompressed
  body_lines   bigint      not null,
  blob_id      uuid,                                  -- where the body is, null: in body
  ret          smallint    not null,                  -- RET (RFC 3461 §4.3): 0 default, 1 full, 2 headers
  flags        smallint    not null,                  -- 1 SMTPUTF8, 2 has octets above 127
  body_codec   smallint    not null,                  -- of body: 0 raw, 1 zstd
  reverse_path text        not null,                  -- '' is the null reverse-path
  envid        text        not null,                  -- ENVID, decoded
  client       text        not null,                  -- who brought it
  body_hash    bytea       not null,                  -- SHA-256
  header       bytea       not null,                  -- with trace fields and empty line
  body         bytea                                  -- a small body
  -- Grant: select, insert, update, delete
  -- Grant read: select
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
alter table outq_msg alter body set storage external;
-- The collector of blobs asks whether one is still referred to.
create index outq_msg_blob on outq_msg (blob_id) where blob_id is not null;

create table outq (
  queue_id      bigint      not null,
  next_at       timestamptz not null,                 -- due time; end of the lease while claimed; infinity: held
  n             int         not null,                 -- of the recipient within the message, from 0
  token         int         not null default 0,       -- moves with every claim and settlement
  attempts      int         not null default 0,
  shard         smallint    not null,                 -- 0-63, by destination: whose node works on it
  state         smallint    not null,                 -- 0 waiting, 1 being tried, 2 held, 3 final, to be reported, 4 being reported
  notify        smallint    not null,                 -- NOTIFY (RFC 3461 §4.1): 1 never, 2 success, 4 failure, 8 delay; 0 default
  code          smallint    not null default 0,       -- SMTP code of the last outcome
  told          boolean     not null default false,   -- the sender knows of the delay
  destination   text        not null,                 -- '' local, '>hop' given next hop, '!' report, else the domain
  local_part    text        not null,
  domain        text        not null,
  original      text        not null,                 -- as the sender knew it
  original_type text        not null,
  local_key     text        not null,                 -- directory key of a mailbox of ours, '' outside
  next_hop      text        not null,                 -- '' by route
  dsn           text        not null default '',      -- enhanced code of the last outcome
  reply         text        not null default '',      -- its words
  relay         text        not null default '',      -- who said so
  primary key (queue_id, n)
  -- Grant: select, insert, update, delete
  -- Grant read: select
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
create index outq_due on outq (shard, next_at);
create index outq_destination on outq (shard, destination, next_at);

-- Which node works on a shard: politeness, so that limits and connections of a
-- destination are one node's memory. Correctness is the token of each row.
create table outq_shard (
  shard       smallint    primary key,
  lease_until timestamptz not null default '-infinity',
  owner       text        not null default ''
  -- Grant: select, update
);
insert into outq_shard (shard) select generate_series(0, 63);

-- The nodes that work on the queue.
create table outq_node (
  owner       text        primary key,
  lease_until timestamptz not null
  -- Grant: select, insert, update, delete
);

-- Puts a message with its recipients into the queue. A message that is there
-- already is left as it is: the caller repeats because it did not hear. Another
-- message of that id is DP409, and nothing has happened: two nodes have made the
-- same id, and the sender tries again.
create function outq_enqueue(
  id bigint, accepted timestamptz, expires timestamptz, lifetime interval, size bigint, lines bigint, blob uuid, hash bytea, codec smallint, content bytea,
  how_much smallint, bits smallint, reverse text, env text, who text, head bytea,
  shards smallint[], states smallint[], notifies smallint[], destinations text[], locals text[], domains text[],
  originals text[], types text[], keys text[], hops text[]) returns void
language plpgsql as $$
begin
  with m as (
    insert into outq_msg (queue_id, accepted_at, expires_at, body_size, body_lines, blob_id, body_hash, body_codec, body, ret, flags, reverse_path, envid, client, header)
    values (id, coalesce(accepted, now()), coalesce(expires, now() + lifetime), size, lines, blob, hash, codec, content, how_much, bits, reverse, env, who, head)
    on conflict do nothing
    returning queue_id)
  insert into outq (queue_id, next_at, n, shard, state, notify, destination, local_part, domain, original, original_type, local_key, next_hop)
  select m.queue_id, case when r.state = 2 then 'infinity' else now() end, r.n - 1, r.shard, r.state, r.notify, r.destination, r.local_part, r.domain, r.original, r.type, r.key, r.hop
    from m, unnest(shards, states, notifies, destinations, locals, domains, originals, types, keys, hops)
         with ordinality as r(shard, state, notify, destination, local_part, domain, original, type, key, hop, n);
  if not found and not exists (select from outq_msg o where o.queue_id = id and o.body_hash = hash and o.body_size = size and o.header = head) then
    raise exception 'queue id is taken' using errcode = 'DP409';
  end if;
end $$;

-- Leases up to per due recipients of each of up to some destinations (per_local of
-- our own mailboxes), oldest first, but none of those in skip, and only mailboxes
-- of ours if local. low is a time before which nothing is due: it keeps the scan
-- off dead entries that an old snapshot holds.
--
-- The functions are in PL/pgSQL, which keeps the plans, and fix how they are made:
-- by the indexes, also when the table was empty when the plan was made.
create function outq_claim(shards smallint[], skip text[], local boolean, destinations int, per int, per_local int, lease interval, low timestamptz)
returns setof outq language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
  chosen_shards smallint[];
  chosen text[];
  crowded smallint[];
begin
  with seen as materialized (
    select s.shard, d.destination, d.next_at
      from unnest(shards) as s(shard)
     cross join lateral (
       select o.destination, o.next_at
         from outq o
        where o.shard = s.shard
          and o.next_at between low and now()
        order by o.next_at
        limit 200) d),
  oldest as (
    select shard, destination, min(next_at) as since
      from seen
     where destination <> all (skip)
       and (destination = '' or not local)
     group by shard, destination
     order by since
     limit destinations)
  select (select array_agg(shard order by since) from oldest),
         (select array_agg(destination order by since) from oldest),
         (select array_agg(c.shard) from (select shard from seen group by shard having count(*) = 200) c)
    into chosen_shards, chosen, crowded;
  if crowded is not null and coalesce(cardinality(chosen), 0) < destinations then
    -- Behind the backlog of a destination that must wait there may be others.
    with recursive d as (
      select s.shard, (select min(o.destination) from outq o where o.shard = s.shard) as destination
        from unnest(crowded) as s(shard)
      union all
      select d.shard, (select min(o.destination) from outq o where o.shard = d.shard and o.destination > d.destination)
        from d
       where d.destination is not null)
    select chosen_shards || array_agg(m.shard), chosen || array_agg(m.destination)
      into chosen_shards, chosen
      from (
        select d.shard, d.destination
          from d
         where d.destination <> all (skip)
           and (d.destination = '' or not local)
           and not exists (select from unnest(chosen_shards, chosen) as c(shard, destination) where c.shard = d.shard and c.destination = d.destination)
           and exists (select from outq o where o.shard = d.shard and o.destination = d.destination and o.next_at between low and now())
         limit destinations - coalesce(cardinality(chosen), 0)) m;
  end if;
  if chosen is null then
    return;
  end if;
  return query
    update outq q
       set next_at = now() + lease, token = q.token + 1, attempts = q.attempts + 1, state = 1
      from (
        select p.queue_id, p.n
          from unnest(chosen_shards, chosen) as c(shard, destination)
         cross join lateral (
           select o.queue_id, o.n
             from outq o
            where o.shard = c.shard
              and o.destination = c.destination
              and o.next_at between low and now()
            order by o.next_at
            limit case when c.destination = '' then per_local else per end
              for update skip locked) p) picked
     where q.queue_id = picked.queue_id
       and q.n = picked.n
    returning q.*;
end $$;

-- Leases what is to be reported of up to some messages: every final recipient of
-- each, so that the sender gets one report.
create function outq_claim_reports(shards smallint[], messages int, lease interval)
returns setof outq language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
begin
  return query
  with due as (
    select o.queue_id
      from unnest(shards) as s(shard)
     cross join lateral (
       select d.queue_id
         from outq d
        where d.shard = s.shard
          and d.destination = '!'
          and d.next_at <= now()
        order by d.next_at
        limit messages * 4) o
     group by o.queue_id
     limit messages),
  picked as (
    select o.queue_id, o.n
      from outq o
      join due on due.queue_id = o.queue_id
     where o.destination = '!'
       and (o.state = 3 or o.next_at <= now())
     order by o.queue_id, o.n
     limit 1000
       for update of o skip locked)
  update outq q
     set next_at = now() + lease, token = q.token + 1, state = 4
    from picked
   where q.queue_id = picked.queue_id
     and q.n = picked.n
  returning q.*;
end $$;

-- Records outcomes and returns the rows whose token was right. verdict: 1 done,
-- 2 try again after a pause, 3 final and to be reported, 4 nothing was tried,
-- 5 like 2, and the sender was told of the delay.
create function outq_settle(ids bigint[], ns int[], tokens int[], verdicts smallint[], pauses interval[], report_in interval,
  codes smallint[], dsns text[], replies text[], relays text[])
returns table (queue_id bigint, n int) language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
  touched bigint[];
begin
  if 1 = any (verdicts) or 3 = any (verdicts) then
    -- Whoever takes the last row of a message must see that it is the last.
    perform from outq_msg m where m.queue_id = any (ids) order by m.queue_id for update;
  end if;
  return query
    delete from outq o
     using unnest(ids, ns, tokens, verdicts) as u(id, n, token, verdict)
     where u.verdict = 1 and o.queue_id = u.id and o.n = u.n and o.token = u.token
    returning o.queue_id, o.n;
  return query
    update outq o
       set next_at = now() + case when u.verdict = 3 then report_in else u.pause end,
           token = o.token + 1,
           attempts = o.attempts - (u.verdict = 4)::int,
           state = case when u.verdict = 3 then 3 else 0 end,
           shard = case when u.verdict = 3 then (o.queue_id % 64)::smallint else o.shard end,
           destination = case when u.verdict = 3 then '!' else o.destination end,
           told = o.told or u.verdict = 5,
           code = case when u.verdict = 4 then o.code else u.code end,
           dsn = case when u.verdict = 4 then o.dsn else u.dsn end,
           reply = case when u.verdict = 4 then o.reply else u.reply end,
           relay = case when u.verdict = 4 then o.relay else u.relay end
      from unnest(ids, ns, tokens, verdicts, pauses, codes, dsns, replies, relays) as u(id, n, token, verdict, pause, code, dsn, reply, relay)
     where u.verdict > 1 and o.queue_id = u.id and o.n = u.n and o.token = u.token
    returning o.queue_id, o.n;
  if 1 = any (verdicts) then
    delete from outq_msg m
     where m.queue_id = any (ids)
       and not exists (select from outq o where o.queue_id = m.queue_id);
  end if;
  -- Nothing more to wait for: report what is final at once.
  if 1 = any (verdicts) or 3 = any (verdicts) then
    update outq o
       set next_at = now()
     where o.queue_id = any (ids)
       and o.state = 3
       and o.next_at > now()
       and not exists (select from outq x where x.queue_id = o.queue_id and x.state < 3);
  end if;
end $$;

-- Renews what a node owns, and evens the shards out among the nodes that live.
create function outq_own(me text, lease interval) returns setof smallint language plpgsql as $$
declare
  fair int;
  mine int;
begin
  insert into outq_node as o (owner, lease_until) values (me, now() + lease)
  on conflict (owner) do update set lease_until = excluded.lease_until;
  delete from outq_node where lease_until < now() - interval '1 hour';
  select ceil(64.0 / count(*)) into fair from outq_node where lease_until > now();
  update outq_shard set lease_until = now() + lease where owner = me;
  get diagnostics mine = row_count;
  if mine > fair then
    update outq_shard set owner = '', lease_until = '-infinity'
     where shard in (select s.shard from outq_shard s where s.owner = me order by s.shard desc limit mine - fair);
  elsif mine < fair then
    update outq_shard set owner = me, lease_until = now() + lease
     where shard in (
       select s.shard from outq_shard s
        where s.lease_until < now()
        order by s.shard
        limit fair - mine
          for update skip locked);
  end if;
  return query select s.shard from outq_shard s where s.owner = me order by s.shard;
end $$;
