-- Give a FIX session up cleanly: after Logout, or when a connection has ended.
--
-- KEYS  none
-- ARGV  1 account, 2 epoch, 3 highest MsgSeqNum received in sequence, 4 next outgoing MsgSeqNum,
--         5 seconds for which its sent messages are kept, 6 '1' = its client is gone now: if its orders are
--         to be canceled then, the grace begins; else whatever waits for that goes on waiting
-- Writes  session:{account}, disconnects; the end of sent:{account}:{number}
--
-- Returns {'OK'} or {'FENCED'}; released already under this epoch is OK too.
--
-- Atomic: epoch checked and everything given up in one step. What came in sequence but needed no answer
-- from the exchange (heartbeats) counts as dealt with; what was admitted later than that stays so. Who never
-- logs on again shall not keep what was sent for ever: the next logon in time calls that off.

local call = redis.call
local key = 'session:' .. ARGV[1]
local s = call('HMGET', key, 'epoch', 'dealt', 'number', 'grace_ms', 'owner')
if s[1] ~= ARGV[2] then
  return {'FENCED'}
end
local dealt = math.max(tonumber(s[2]) or 0, tonumber(ARGV[3]))
call('HSET', key, 'owner', '', 'until_ms', 0, 'dealt', dealt, 'next_out', ARGV[4])
local grace = tonumber(s[4])
if ARGV[6] == '1' and grace and s[5] ~= '' then
  local time = call('TIME')
  call('ZADD', 'disconnects', time[1] * 1000 + math.floor(time[2] / 1000) + grace, ARGV[1])
end
call('EXPIRE', 'sent:' .. ARGV[1] .. ':' .. s[3], ARGV[5])
return {'OK'}
