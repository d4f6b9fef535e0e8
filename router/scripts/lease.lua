-- Who leads a shard. Runs in the shard's database.
--
-- KEYS  none
-- ARGV  1 'acquire' | 'renew' | 'release' | 'handover', 2 owner, 3 epoch (not for acquire), 4 TTL in ms
-- Reads and writes  lease: owner, epoch, until_ms (Redis' own clock), handover
--
-- Returns {'OK', epoch, handover}              acquire, renew: the caller leads until now + TTL, and is
--                                              asked to hand over if both numbers are the same
--                                              release, handover: done
--         {'HELD', owner, remaining ms}        acquire: somebody else does
--         {'LOST'}                             somebody else has acquired it since that epoch
--
-- Atomic, because two engines that both read an expired lease must not both take it. The epoch rises
-- with each acquisition and never falls; settle and publish refuse an older one. A lease that ran out
-- but that nobody took may be renewed: no one else has written under it. A handover is asked of one
-- epoch, so it is over when the next one begins; the owner of it may be anybody (ARGV 2 is not looked at).
-- Limits: epoch < 2^53.

local call = redis.call
local action, owner, epoch, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local lease = call('HMGET', 'lease', 'owner', 'epoch', 'until_ms', 'handover')
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if action == 'acquire' then
  local remaining = (tonumber(lease[3]) or 0) - now
  if lease[1] and lease[1] ~= '' and lease[1] ~= owner and remaining > 0 then
    return {'HELD', lease[1], remaining}
  end
  local new = (tonumber(lease[2]) or 0) + 1
  call('HSET', 'lease', 'owner', owner, 'epoch', new, 'until_ms', now + ttl)
  return {'OK', new, tonumber(lease[4]) or 0}
end
if lease[2] ~= epoch or lease[1] == '' or (lease[1] ~= owner and action ~= 'handover') then
  return {'LOST'}
end
if action == 'renew' then
  call('HSET', 'lease', 'until_ms', now + ttl)
elseif action == 'release' then
  call('HSET', 'lease', 'owner', '', 'until_ms', 0)
else
  call('HSET', 'lease', 'handover', epoch)
end
return {'OK', tonumber(epoch), tonumber(lease[4]) or 0}
