-- Take an account's FIX session: one gateway at a time.
--
-- KEYS  none
-- ARGV  1 account, 2 owner, 3 TTL in ms, 4 '1' = reset the numbers, 5 numbers leased at once
--       6 whether its orders are canceled when it is gone: '' as the user's record says, 'Y' with the grace
--         that it says (0 if none), 'N' not; 'keep': nobody has proved who it is, so whatever waits for a
--         client that is gone goes on waiting
--       7 second of the UTC day at which the numbers of all are reset; '' = never
--       8… names of fields of the user's record
-- Reads   user:{account}, open:{account}, outbox:{account}, restored
-- Writes  session:{account}, disconnects; deletes sent:{account}:{number} at a reset, else keeps it for good
--
-- Returns {'DISABLED'}
--         {'TAKEN', owner, remaining ms}
--         {'RESTORED'}
--         {'OPENED', epoch, number, next_in, next_out, out_limit, cursor, number of open orders,
--           last entry of the outbox, {the user's fields, '' where absent}}
--
-- Atomic, so that of two gateways one gets the session, and so that the epoch that fences the other is
-- raised together with handing out the numbers. A session that was not released, because its gateway
-- died, goes on behind all numbers that were leased to it. A reset begins a new incarnation (number): what
-- was sent before can be asked for no more, and goes. The cursor in the outbox stays in any case. So does the
-- daily reset, for whoever logs on first after it: began_ms says since when the numbers go on.
-- A user who was there before the venue was restored from a backup has to ask for a reset once: its client has
-- heard of orders and fills that are gone, and whose numbers come again. A reset by the clock does not count.
-- The epoch is not below the clock's microseconds: a server that took over without the last logons must not
-- give an epoch again that a gateway still writes under.
-- The number of open orders is that behind the outbox entry named: whoever counts goes on behind it.
-- Limits: epoch, numbers < 2^53.

local call = redis.call
local account, owner, ttl, reset, block = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1',
  tonumber(ARGV[5])
local key = 'session:' .. account

local user = call('HMGET', 'user:' .. account, 'disabled', 'cancel_on_disconnect_s', 'created_us')
if user[1] == '1' then
  return {'DISABLED'}
end
local s = call('HMGET', key, 'epoch', 'owner', 'until_ms', 'number', 'dealt', 'out_limit', 'next_out',
  'cursor', 'began_ms', 'restored')
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local remaining = (tonumber(s[3]) or 0) - now
if s[2] and s[2] ~= '' and remaining > 0 then
  return {'TAKEN', s[2], remaining}
end

local restored = call('GET', 'restored')
if restored and not reset and s[10] ~= restored and (tonumber(user[3]) or 0) <= tonumber(restored) then
  return {'RESTORED'}
end
local asked = reset

local reset_at, seconds = tonumber(ARGV[7]), tonumber(time[1])
if reset_at and (tonumber(s[9]) or 0) < (seconds - (seconds - reset_at) % 86400) * 1000 then
  reset = true
end
local began = reset and now or tonumber(s[9]) or now

local epoch = math.max((tonumber(s[1]) or 0) + 1, time[1] * 1000000 + time[2])
local number, dealt = tonumber(s[4]) or 0, tonumber(s[5]) or 0
local next_out = tonumber(s[7]) or 0
if next_out == 0 then
  next_out = (tonumber(s[6]) or 0) + 1
end
if reset or number == 0 then
  number, next_out = number + 1, 1
end
if reset then
  dealt = 0
end
local out_limit = next_out - 1 + block
-- First, because it is what Redis refuses when out of memory.
call('HSET', key, 'epoch', epoch, 'owner', owner, 'until_ms', now + ttl, 'number', number,
  'dealt', dealt, 'out_limit', out_limit, 'next_out', 0, 'began_ms', began)
if restored and asked then
  call('HSET', key, 'restored', restored)
end
if ARGV[6] ~= 'keep' then
  local grace = ARGV[6] ~= 'N' and tonumber(user[2]) or ARGV[6] == 'Y' and 0
  if grace then
    call('HSET', key, 'grace_ms', 1000 * grace, 'missed', '')
    call('ZADD', 'disconnects', now + ttl + 1000 * grace, account)
  else
    call('HSET', key, 'grace_ms', '', 'missed', '')
    call('ZREM', 'disconnects', account)
  end
end
if reset then
  call('UNLINK', 'sent:' .. account .. ':' .. number - 1)
else
  call('PERSIST', 'sent:' .. account .. ':' .. number)
end
local fields = {}
for i = 8, #ARGV do
  fields[#fields + 1] = call('HGET', 'user:' .. account, ARGV[i]) or ''
end
local last = call('XREVRANGE', 'outbox:' .. account, '+', '-', 'COUNT', 1)[1]
return {'OPENED', epoch, number, dealt + 1, next_out, out_limit, tonumber(s[8]) or 0,
  call('HLEN', 'open:' .. account), last and tonumber(string.match(last[1], '^(%d+)')) or 0, fields}
