-- Lease the next block of outgoing MsgSeqNums to a FIX session.
--
-- KEYS  none
-- ARGV  1 account, 2 epoch, 3 the limit as the caller knows it, 4 block
-- Writes  session:{account} out_limit
--
-- Returns {'OK', out_limit} or {'FENCED'}
--
-- Atomic: epoch checked and limit raised in one step. Sent again after a lost reply it changes nothing,
-- because it names the limit that it starts from. One below that was lost with a server; the caller's counts.

local call = redis.call
local key = 'session:' .. ARGV[1]
local s = call('HMGET', key, 'epoch', 'out_limit')
if s[1] ~= ARGV[2] then
  return {'FENCED'}
end
local limit, known = tonumber(s[2]), tonumber(ARGV[3])
if limit <= known then
  limit = known + tonumber(ARGV[4])
  call('HSET', key, 'out_limit', limit)
end
return {'OK', limit}
