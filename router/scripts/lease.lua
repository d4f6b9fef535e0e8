-- Who leads a shard. Runs in the shard's database.
--
-- KEYS  none
-- ARGV  1 'acquire' | 'renew' | 'release', 2 owner, 3 epoch (renew, release), 4 TTL in ms
-- Reads and writes  lease: owner, epoch, until_ms (Redis' own clock)
--
-- Returns {'OK', epoch}                        the caller leads until now + TTL
--         {'HELD', owner, remaining ms}        acquire: somebody else does
--         {'LOST'}                             renew, release: somebody else has acquired it since
--
-- Atomic, because two engines that both read an expired lease must not both take it. The epoch rises
-- with each acquisition and never falls; settle and publish refuse an older one. A lease that ran out
-- but that nobody took may be renewed: no one else has written under it.
-- Limits: epoch < 2^53.

local call = redis.call
local action, owner, epoch, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local lease = call('HMGET', 'lease', 'owner', 'epoch', 'until_ms')
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if action == 'acquire' then
  local remaining = (tonumber(lease[3]) or 0) - now
  if lease[1] and lease[1] ~= '' and lease[1] ~= owner and remaining > 0 then
    return {'HELD', lease[1], remaining}
  end
  local new = (tonumber(lease[2]) or 0) + 1
  call('HSET', 'lease', 'owner', owner, 'epoch', new, 'until_ms', now + ttl)
  return {'OK', new}
end
if lease[1] ~= owner or lease[2] ~= epoch then
  return {'LOST'}
end
if action == 'renew' then
  call('HSET', 'lease', 'until_ms', now + ttl)
else
  call('HSET', 'lease', 'owner', '', 'until_ms', 0)
end
return {'OK', tonumber(epoch)}
