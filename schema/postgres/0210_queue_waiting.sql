-- Additive: programs that do not know it go on working.
-- Mail that waits is found by whom it waits for, so that it need not wait any longer
-- when the directory says something else of them.
-- Locks taken: share on outq while each index is made, so that nothing is queued or
-- settled meanwhile: well below a second for 100,000 recipients.

create index outq_person on outq (local_key) where local_key <> '';
-- Nobody's whom the directory knew. By octets, so that addresses with a detail are a range.
create index outq_unknown on outq (domain, (lower(local_part) collate "C")) where local_key = '' and next_hop <> '';
