-- Change a user's password.
--
-- KEYS  none
-- ARGV  1 account, 2 password hash, 3 the encoded PasswordChanged
-- Reads and writes  user:{account}, ledger
--
-- Returns {'OK', ledger entry} or {'UNKNOWN'}
--
-- Atomic, because the hash in force and the ledger must agree. Run twice it writes two equal entries.

local call = redis.call
local key = 'user:' .. ARGV[1]
if call('EXISTS', key) == 0 then
  return {'UNKNOWN'}
end
local time = call('TIME')
local now = time[1] .. string.format('%06d', time[2])
local last = call('XREVRANGE', 'ledger', '+', '-', 'COUNT', 1)[1]
local n = (last and tonumber(string.match(last[1], '^(%d+)')) or 0) + 1
if last and tonumber(last[2][4]) > tonumber(now) then
  now = last[2][4]
end
call('XADD', 'ledger', n .. '-0', 'e', ARGV[3], 't', now)
call('HSET', key, 'password_hash', ARGV[2])
return {'OK', n}
