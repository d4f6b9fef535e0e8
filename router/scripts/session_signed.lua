-- Take note of a signed Logon, once: a copy of it is refused.
--
-- KEYS  none
-- ARGV  1 account, 2 SendingTime (52) in µs since 1970
-- Reads and writes  session:{account} signed_us
--
-- Returns {'OK'}
--         {'REPLAYED', µs}  one of that time or a later one was accepted before: nothing is written
--
-- Atomic, so that of two gateways that are shown the same Logon one takes it. The time is signed, and only
-- ever grows: what was accepted once is accepted never again, on no gateway, after no restart.
-- Limits: times < 2^53.

local call = redis.call
local key = 'session:' .. ARGV[1]
local last = call('HGET', key, 'signed_us')
if last and tonumber(last) >= tonumber(ARGV[2]) then
  return {'REPLAYED', tonumber(last)}
end
call('HSET', key, 'signed_us', ARGV[2])
return {'OK'}
