-- Say that a gateway still serves its FIX sessions: once a second, all of them in one call.
--
-- KEYS  none
-- ARGV  1 TTL in ms, 2 msgpack, flat, two per session: account, epoch
-- Writes  session:{account} until_ms, disconnects
--
-- Returns the accounts whose session belongs to somebody else now.
--
-- Atomic, so that a session cannot change hands between the look at its epoch and the renewal. One that ran
-- out but that nobody took goes on. The time at which it counts as gone moves on with it.
-- Limits: as many sessions as a gateway serves, 2 µs each.

local call = redis.call
local ttl, sessions = tonumber(ARGV[1]), cmsgpack.unpack(ARGV[2])
local time = call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) + ttl
local lost = {}
for i = 1, #sessions, 2 do
  local key = 'session:' .. sessions[i]
  local s = call('HMGET', key, 'epoch', 'grace_ms')
  if tonumber(s[1]) == sessions[i + 1] then
    call('HSET', key, 'until_ms', until_ms)
    local grace = tonumber(s[2])
    if grace then
      call('ZADD', 'disconnects', until_ms + grace, sessions[i])
    end
  else
    lost[#lost + 1] = sessions[i]
  end
end
return lost
