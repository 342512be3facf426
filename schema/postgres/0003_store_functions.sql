-- The hot operations of the message store: one function, one round trip, one
-- account each. Locks: mailbox rows ascending, then the account row.
--
-- SQLSTATEs raised here: DP404 no such mailbox or account, DP452 over quota
-- (DETAIL is the account), DP409 another message has this id.

-- deliver stores a message in mailbox mb, and in the mailboxes more_mb, which
-- ascend from mb; null for none. It returns the outcome: 0 stored, 1 a repeat of
-- another message, 2 this very message was there already; then UIDVALIDITY, UID
-- and modseq of each copy, of the first only for outcome 2 if it is still there.
-- quota 0: no limit. rep null: does not look. Over quota is outcome 3 if gently,
-- else it ends the transaction: DP452. (An array, because a row would make the
-- caller set up a scan of the function.)
create function deliver(
  a bigint, mb bigint, fl bigint, quota bigint, rep uuid, now_s bigint,
  mid bigint, sz bigint, idate timestamptz, bsz bigint, mhash bigint, thread bigint,
  blines int, hcod smallint, bcod smallint, bid uuid,
  pre bytea, hdr bytea, env bytea, str bytea, subj text, frm text, rcpt text, bod bytea,
  more_mb bigint[], more_fl bigint[], gently boolean) returns bigint[]
language plpgsql as $$
declare
  seen boolean := false;
  n bigint := 1;
  v bigint;
  u bigint;
  q bigint;
  copies bigint[];
begin
  if rep is not null then
    insert into repeat (account_id, seen_at, key)
    values (a, now_s, rep)
        on conflict (account_id, key) do update
       set seen_at = excluded.seen_at
     where repeat.seen_at < excluded.seen_at - 86400;
    seen := not found;
  end if;
  if gently and not seen and quota > 0
     and (select c.used_bytes + sz > quota from account c where c.account_id = a) then
    -- In a transaction with others, which must not fail with this one.
    if exists (select from message m where m.account_id = a and m.message_id = mid) then
      return delivered_before(a, mb, mid, mhash, bsz);
    end if;
    delete from repeat where account_id = a and key = rep;
    return array[3];
  end if;
  if not seen then
    insert into message (account_id, message_id, size, internal_date, body_size, message_hash, thread_id,
                         body_lines, header_codec, body_codec, blob_id,
                         prepend, header, envelope, structure, subject, sender, recipients, body)
    values (a, mid, sz, idate, bsz, mhash, thread, blines, hcod, bcod, bid, pre, hdr, env, str, subj, frm, rcpt, bod)
        on conflict do nothing;
    seen := not found;
  end if;
  if seen then
    return delivered_before(a, mb, mid, mhash, bsz);
  end if;
  update mailbox m
     set uidnext  = m.uidnext + 1,
         modseq   = m.modseq + 1,
         messages = m.messages + 1,
         unseen   = m.unseen + (~fl & 1),
         deleted  = m.deleted + (fl >> 3 & 1),
         bytes    = m.bytes + sz
   where m.account_id = a and m.mailbox_id = mb
  returning m.uidvalidity, m.uidnext - 1, m.modseq into v, u, q;
  if not found then
    raise exception 'no such mailbox' using errcode = 'DP404';
  end if;
  insert into mailbox_message (account_id, mailbox_id, uid, modseq, message_id, flags, size)
  values (a, mb, u, q, mid, fl, sz);
  copies := array[0, v, u, q];
  if more_mb is not null then
    n := 1 + cardinality(more_mb);
    for i in 1 .. cardinality(more_mb) loop
      update mailbox m
         set uidnext  = m.uidnext + 1,
             modseq   = m.modseq + 1,
             messages = m.messages + 1,
             unseen   = m.unseen + (~more_fl[i] & 1),
             deleted  = m.deleted + (more_fl[i] >> 3 & 1),
             bytes    = m.bytes + sz
       where m.account_id = a and m.mailbox_id = more_mb[i]
      returning m.uidvalidity, m.uidnext - 1, m.modseq into v, u, q;
      if not found then
        raise exception 'no such mailbox' using errcode = 'DP404';
      end if;
      insert into mailbox_message (account_id, mailbox_id, uid, modseq, message_id, flags, size)
      values (a, more_mb[i], u, q, mid, more_fl[i], sz);
      copies := copies || array[v, u, q];
    end loop;
  end if;
  update account c
     set used_bytes    = c.used_bytes + n * sz,
         used_messages = c.used_messages + n
   where c.account_id = a
     and (quota = 0 or c.used_bytes + n * sz <= quota);
  if not found then
    perform over_quota(a);
  end if;
  return copies;
end $$;

-- delivered_before answers for a message whose key, or that itself, is there.
-- Another message of the same id, which two nodes may give by chance, must not
-- pass for it: it is refused for the moment and comes again with another id.
create function delivered_before(a bigint, mb bigint, mid bigint, mhash bigint, bsz bigint) returns bigint[]
language plpgsql as $$
declare
  answer bigint[];
  same boolean;
begin
  select m.message_hash = mhash and m.body_size = bsz into same
    from message m
   where m.account_id = a and m.message_id = mid;
  if not found then
    return array[1];
  end if;
  if not same then
    raise exception 'message id is taken' using errcode = 'DP409';
  end if;
  select array[2, m.uidvalidity, x.uid, x.modseq] into answer
    from mailbox_message x join mailbox m using (account_id, mailbox_id)
   where x.account_id = a and x.mailbox_id = mb and x.message_id = mid
   order by x.uid
   limit 1;
  return coalesce(answer, array[2]);
end $$;

-- over_quota explains why the account row was not updated.
create function over_quota(a bigint) returns void
language plpgsql as $$
begin
  if exists (select from account c where c.account_id = a) then
    raise exception 'over quota' using errcode = 'DP452', detail = a;
  end if;
  raise exception 'no such account' using errcode = 'DP404';
end $$;

-- The functions below look rows up by UID ranges, in "lateral (… offset 0)": that
-- keeps the range in the condition of the index, whatever the planner believes
-- about the size of a mailbox. What they change they then name by ctid: every
-- change of a mailbox's rows holds the lock on the mailbox, so that the rows are
-- where they were found.

-- store_flags sets the flags of the messages in the UID ranges los..his to
-- (flags & keep) | add, except those with a modseq above since, which are
-- modified. Messages whose flags are so already are left alone.
create function store_flags(
  a bigint, mb bigint, los bigint[], his bigint[], keep bigint, add bigint, since bigint, today int,
  out new_modseq bigint, out uids bigint[], out modified bigint[])
language plpgsql as $$
#variable_conflict use_column
declare
  seen bigint;
  gone bigint;
  places tid[];
  ranges int8multirange;
begin
  select m.modseq + 1 into new_modseq
    from mailbox m
   where m.account_id = a and m.mailbox_id = mb
     for no key update;
  if not found then
    raise exception 'no such mailbox' using errcode = 'DP404';
  end if;
  select array_agg(x.uid order by x.uid) filter (where x.modseq <= since),
         array_agg(x.place) filter (where x.modseq <= since),
         range_agg(int8range(x.uid, x.uid, '[]')) filter (where x.modseq <= since),
         sum((x.after & 1) - (x.flags & 1)) filter (where x.modseq <= since),
         sum((x.after >> 3 & 1) - (x.flags >> 3 & 1)) filter (where x.modseq <= since),
         array_agg(x.uid order by x.uid) filter (where x.modseq > since)
    into uids, places, ranges, seen, gone, modified
    from unnest(los, his) r (lo, hi)
   cross join lateral (
         select y.ctid as place, y.uid, y.modseq, y.flags, (y.flags & keep) | add as after
           from mailbox_message y
          where y.account_id = a and y.mailbox_id = mb and y.uid between r.lo and r.hi
         offset 0) x
   where x.modseq > since or x.after <> x.flags;
  if uids is null then
    new_modseq := 0;
    return;
  end if;
  update mailbox_message x
     set flags = (x.flags & keep) | add, modseq = new_modseq
   where x.ctid = any (places) and x.account_id = a and x.mailbox_id = mb;
  update mailbox m
     set modseq  = new_modseq,
         unseen  = m.unseen - seen,
         deleted = m.deleted + gone
   where m.account_id = a and m.mailbox_id = mb;
  insert into change_log (account_id, mailbox_id, modseq, kind, day, uids)
  values (a, mb, new_modseq, 2, today, ranges);
end $$;

-- expunge removes the messages in the UID ranges los..his that have all the
-- flags of with_flags, and keeps them for undelete.
create function expunge(
  a bigint, mb bigint, los bigint[], his bigint[], with_flags bigint, today int,
  out new_modseq bigint, out uids bigint[])
language plpgsql as $$
#variable_conflict use_column
declare
  n bigint;
  n_unseen bigint;
  n_deleted bigint;
  n_bytes bigint;
  mids bigint[];
  fls bigint[];
  szs bigint[];
  places tid[];
  ranges int8multirange;
begin
  select m.modseq + 1 into new_modseq
    from mailbox m
   where m.account_id = a and m.mailbox_id = mb
     for no key update;
  if not found then
    raise exception 'no such mailbox' using errcode = 'DP404';
  end if;
  select array_agg(x.uid order by x.uid), array_agg(x.message_id order by x.uid),
         array_agg(x.flags order by x.uid), array_agg(x.size order by x.uid), array_agg(x.place),
         range_agg(int8range(x.uid, x.uid, '[]')),
         count(*), count(*) filter (where x.flags & 1 = 0), count(*) filter (where x.flags & 8 <> 0), sum(x.size)
    into uids, mids, fls, szs, places, ranges, n, n_unseen, n_deleted, n_bytes
    from unnest(los, his) r (lo, hi)
   cross join lateral (
         select y.ctid as place, y.uid, y.message_id, y.flags, y.size
           from mailbox_message y
          where y.account_id = a and y.mailbox_id = mb and y.uid between r.lo and r.hi
         offset 0) x
   where x.flags & with_flags = with_flags;
  if n = 0 then
    new_modseq := 0;
    return;
  end if;
  delete from mailbox_message x
   where x.ctid = any (places) and x.account_id = a and x.mailbox_id = mb;
  insert into expunged (account_id, mailbox_id, uid, message_id, flags, size)
  select a, mb, t.uid, t.mid, t.fl, t.sz
    from unnest(uids, mids, fls, szs) t (uid, mid, fl, sz);
  update mailbox m
     set modseq   = new_modseq,
         messages = m.messages - n,
         unseen   = m.unseen - n_unseen,
         deleted  = m.deleted - n_deleted,
         bytes    = m.bytes - n_bytes
   where m.account_id = a and m.mailbox_id = mb;
  insert into change_log (account_id, mailbox_id, modseq, kind, day, uids)
  values (a, mb, new_modseq, 3, today, ranges);
  update account c
     set used_bytes    = c.used_bytes - n_bytes,
         used_messages = c.used_messages - n
   where c.account_id = a;
end $$;

-- copy_messages copies (COPY) or moves (MOVE) the messages in the UID ranges
-- los..his from mailbox src to dst of the same account, in UID order. A moved
-- message leaves nothing for undelete: it is still there.
create function copy_messages(
  a bigint, src bigint, dst bigint, los bigint[], his bigint[], moving boolean, quota bigint, today int,
  out uidvalidity bigint, out src_modseq bigint, out dst_modseq bigint, out old_uids bigint[], out new_uids bigint[])
language plpgsql as $$
#variable_conflict use_column
declare
  found_rows bigint;
  n bigint;
  n_unseen bigint;
  n_deleted bigint;
  n_bytes bigint;
  mids bigint[];
  fls bigint[];
  szs bigint[];
  places tid[];
  first bigint;
begin
  perform from mailbox m
    where m.account_id = a and m.mailbox_id in (src, dst)
    order by m.mailbox_id
      for no key update;
  get diagnostics found_rows = row_count;
  if found_rows < 2 and (src <> dst or found_rows < 1) then
    raise exception 'no such mailbox' using errcode = 'DP404';
  end if;
  src_modseq := 0;
  dst_modseq := 0;
  select array_agg(x.uid order by x.uid), array_agg(x.message_id order by x.uid),
         array_agg(x.flags order by x.uid), array_agg(x.size order by x.uid), array_agg(x.place),
         count(*), count(*) filter (where x.flags & 1 = 0), count(*) filter (where x.flags & 8 <> 0), sum(x.size)
    into old_uids, mids, fls, szs, places, n, n_unseen, n_deleted, n_bytes
    from unnest(los, his) r (lo, hi)
   cross join lateral (
         select y.ctid as place, y.uid, y.message_id, y.flags, y.size
           from mailbox_message y
          where y.account_id = a and y.mailbox_id = src and y.uid between r.lo and r.hi
         offset 0) x;
  if n = 0 then
    select m.uidvalidity into uidvalidity from mailbox m where m.account_id = a and m.mailbox_id = dst;
    return;
  end if;
  if moving then
    delete from mailbox_message x
     where x.ctid = any (places) and x.account_id = a and x.mailbox_id = src;
    update mailbox m
       set modseq   = m.modseq + 1,
           messages = m.messages - n,
           unseen   = m.unseen - n_unseen,
           deleted  = m.deleted - n_deleted,
           bytes    = m.bytes - n_bytes
     where m.account_id = a and m.mailbox_id = src
    returning m.modseq into src_modseq;
    insert into change_log (account_id, mailbox_id, modseq, kind, day, uids)
    select a, src, src_modseq, 3, today, range_agg(int8range(u, u, '[]')) from unnest(old_uids) u;
  end if;
  update mailbox m
     set modseq   = m.modseq + 1,
         uidnext  = m.uidnext + n,
         messages = m.messages + n,
         unseen   = m.unseen + n_unseen,
         deleted  = m.deleted + n_deleted,
         bytes    = m.bytes + n_bytes
   where m.account_id = a and m.mailbox_id = dst
  returning m.uidvalidity, m.modseq, m.uidnext - n into uidvalidity, dst_modseq, first;
  insert into mailbox_message (account_id, mailbox_id, uid, modseq, message_id, flags, size)
  select a, dst, first - 1 + t.i, dst_modseq, t.mid, t.fl, t.sz
    from unnest(mids, fls, szs) with ordinality t (mid, fl, sz, i);
  select array_agg(first - 1 + i order by i) into new_uids from generate_series(1, n) i;
  if not moving then
    update account c
       set used_bytes    = c.used_bytes + n_bytes,
           used_messages = c.used_messages + n
     where c.account_id = a
       and (quota = 0 or c.used_bytes + n_bytes <= quota);
    if not found then
      perform over_quota(a);
    end if;
  end if;
end $$;
