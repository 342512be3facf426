-- deliver as it was, but for what it costs: nothing in it is planned anew for each
-- message.
-- Locks taken: none on existing tables.

-- deliver stores a message in mailbox mb, and in the mailboxes more_mb, which
-- ascend from mb; null for none. It returns the outcome: 0 stored, 1 a repeat of
-- another message, 2 this very message was there already; then UIDVALIDITY, UID
-- and modseq of each copy, of the first only for outcome 2 if it is still there.
-- quota 0: no limit. rep null: does not look. Over quota is outcome 3 if gently,
-- else it ends the transaction: DP452. (An array, because a row would make the
-- caller set up a scan of the function.)
create or replace function deliver(
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
  if gently and not seen and quota > 0 then
    -- In a transaction with others, which must not fail with this one. The look
    -- at the account is a statement of its own: as a part of the condition above
    -- it made a query of it, planned anew for each message without a quota.
    if (select c.used_bytes + sz > quota from account c where c.account_id = a) then
      if exists (select from message m where m.account_id = a and m.message_id = mid) then
        return delivered_before(a, mb, mid, mhash, bsz);
      end if;
      delete from repeat where account_id = a and key = rep;
      return array[3];
    end if;
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
