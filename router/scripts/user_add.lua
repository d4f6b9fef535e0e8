-- Create a user with the next account number.
--
-- KEYS  none
-- ARGV  1 the account that the entry names, 2 username, 3 password hash, 4 the encoded UserCreated
--       5 run id of the server
-- Reads   cleared
-- Reads and writes  user_ids, usernames, user:{account}, ledger
--
-- Returns {'OK', ledger entry}
--         {'EXISTS', account}      the username is taken
--         {'UNCLEARED'}            likewise nothing is written; a venue that never was cleared counts as cleared
--         {'NEXT', account}        another number is the next one: encode the entry again
--
-- Atomic, because number, username and ledger entry must be given together. The number stands inside
-- the entry, where a script fills nothing in; so the caller proposes it and learns the right one.

local call = redis.call
local account = ARGV[1]
local taken = call('HGET', 'usernames', ARGV[2])
if taken then
  return {'EXISTS', tonumber(taken)}
end
if not is_cleared(true) then
  return {'UNCLEARED'}
end
local next_account = (tonumber(call('GET', 'user_ids')) or 0) + 1
if next_account ~= tonumber(account) then
  return {'NEXT', next_account}
end
local n, now = append_to_ledger(ARGV[4])
call('SET', 'user_ids', account)
call('HSET', 'usernames', ARGV[2], account)
call('HSET', 'user:' .. account, 'username', ARGV[2], 'password_hash', ARGV[3], 'created_us', now,
  'disabled', '0')
return {'OK', n}
