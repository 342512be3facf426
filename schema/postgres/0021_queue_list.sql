-- What a list does to a queued message: bounces go to its owner, so the reverse-path
-- that the sender gave is kept beside the one that is used. And why a recipient is
-- held stands with it from the start.
-- Locks taken: access exclusive on outq_msg, for a moment: the column is only a new
-- default in the catalogue.

alter table outq_msg add column origin text not null default '';  -- reverse-path as given, where a list put its owner's there; else ''

drop function outq_enqueue(
  bigint, timestamptz, timestamptz, interval, bigint, bigint, uuid, bytea, smallint, bytea,
  smallint, smallint, text, text, text, bytea,
  smallint[], smallint[], smallint[], text[], text[], text[], text[], text[], text[], text[]);

-- As before, with origin, and with why a recipient is held.
create function outq_enqueue(
  id bigint, accepted timestamptz, expires timestamptz, lifetime interval, size bigint, lines bigint, blob uuid, hash bytea, codec smallint, content bytea,
  how_much smallint, bits smallint, reverse text, given text, env text, who text, head bytea,
  shards smallint[], states smallint[], notifies smallint[], destinations text[], locals text[], domains text[],
  originals text[], types text[], keys text[], hops text[], reasons text[]) returns void
language plpgsql as $$
begin
  with m as (
    insert into outq_msg (queue_id, accepted_at, expires_at, body_size, body_lines, blob_id, body_hash, body_codec, body, ret, flags, reverse_path, origin, envid, client, header)
    values (id, coalesce(accepted, now()), coalesce(expires, now() + lifetime), size, lines, blob, hash, codec, content, how_much, bits, reverse, given, env, who, head)
    on conflict do nothing
    returning queue_id)
  insert into outq (queue_id, next_at, n, shard, state, notify, destination, local_part, domain, original, original_type, local_key, next_hop, reply)
  select m.queue_id, case when r.state = 2 then 'infinity' else now() end, r.n - 1, r.shard, r.state, r.notify, r.destination, r.local_part, r.domain, r.original, r.type, r.key, r.hop, r.reason
    from m, unnest(shards, states, notifies, destinations, locals, domains, originals, types, keys, hops, reasons)
         with ordinality as r(shard, state, notify, destination, local_part, domain, original, type, key, hop, reason, n);
  if not found and not exists (select from outq_msg o where o.queue_id = id and o.body_hash = hash and o.body_size = size and o.header = head) then
    raise exception 'queue id is taken' using errcode = 'DP409';
  end if;
end $$;
