-- Change a user's password.
--
-- KEYS  none
-- ARGV  1 account, 2 password hash, 3 the encoded PasswordChanged, 4 run id of the server
-- Reads   cleared
-- Reads and writes  user:{account}, ledger
--
-- Returns {'OK', ledger entry}, {'UNKNOWN'} or {'UNCLEARED'}; a venue that never was cleared counts as cleared
--
-- Atomic, because the hash in force and the ledger must agree. Run twice it writes two equal entries.

local call = redis.call
local key = 'user:' .. ARGV[1]
if call('EXISTS', key) == 0 then
  return {'UNKNOWN'}
end
if not is_cleared(true) then
  return {'UNCLEARED'}
end
local n = append_to_ledger(ARGV[3])
call('HSET', key, 'password_hash', ARGV[2])
return {'OK', n}
