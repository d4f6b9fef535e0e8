-- Cancel the orders of an account whose client has been gone for longer than its grace.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 account, 2 the encoded CancelAll
--       3 msgpack, flat, three per symbol of the venue, sorted by db: name, db, incarnation
--       4 run id of the server
-- Reads   DB 0 cleared, disconnects, home:{symbol}, settled, open:{account}. Shard DBs cleared, home:{symbol},
--         last of orders:{symbol}
-- Writes  DB 0 session:{account}, disconnects. Shard DBs orders:{symbol}
--
-- Returns {'OK', streams written, symbols that are away}
--         {'WAITS'}                         it is not due, or done by somebody else: nothing is written
--         {'UNCLEARED'}, {'HOME', symbol}   likewise
--
-- Atomic, so that it is decided once, whichever gateways look, and whichever die: who is due and not back is
-- taken off the list in the same step. The session's epoch is raised in it too, so that nothing which its
-- gateway still has in hand gets into a stream behind the cancel.
-- Symbols of a shard that is away are tried again each second, as long as the client does not log on again;
-- the others are canceled at once. What goes where: see streams.lua.
-- All checks come before the first write. Limits: some 5 µs per symbol.

local call = redis.call
local account, key, symbols = ARGV[1], 'session:' .. ARGV[1], cmsgpack.unpack(ARGV[3])
local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local due = tonumber(call('ZSCORE', 'disconnects', account))
local s = call('HMGET', key, 'owner', 'until_ms', 'missed')
if not due or due > now_ms or (s[1] and s[1] ~= '' and tonumber(s[2]) > now_ms) then
  return {'WAITS'}
end
if not is_cleared() then
  return {'UNCLEARED'}
end
local homes, seqs, stamps, away = read_streams(symbols, 3, time[1] .. string.format('%06d', time[2]))
local refused = wrong_home(symbols, 3, homes, away)
if refused then
  return refused
end

local may_have, again, missed, written = may_have_orders(account), (s[3] or '') ~= '', {}, {}
local left = {}
for name in string.gmatch(s[3] or '', '%S+') do
  left[name] = true
end
for i = 1, #symbols, 3 do
  local name, index = symbols[i], (i + 2) / 3
  if left[name] or not again then
    if away[index] then
      missed[#missed + 1] = name
    elseif may_have(name, seqs[index]) then
      written[#written + 1] = index
    end
  end
end

if not again then
  call('HINCRBY', key, 'epoch', 1)
end
call('HSET', key, 'owner', '', 'until_ms', 0, 'missed', table.concat(missed, ' '))
if #missed > 0 then
  call('ZADD', 'disconnects', now_ms + 1000, account)
else
  call('ZREM', 'disconnects', account)
end
append_everywhere(symbols, 3, written, seqs, stamps, ARGV[2])
return {'OK', #written, #missed}
