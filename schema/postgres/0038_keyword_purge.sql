-- The keywords of an account go with it when its time is over: until now the server
-- was not allowed to delete them, and no account whose owner has left would have gone.
-- Locks taken: share update exclusive on keyword, for a moment.
comment on table keyword is 'The keywords of an account, as first spelt (RFC 9051 §2.3.2)';  -- Grant: delete
