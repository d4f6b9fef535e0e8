-- Have time pass where no input comes: append a Tick to the commands of symbols in which something is due.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 msgpack, flat: shard db, lease owner, lease epoch
--       2 msgpack, flat, four per symbol: name, incarnation, seq of the last input that the engine has applied,
--         when something is due, in µs since 1970
--       3 the encoded Tick
--       4 run id of the server
-- Reads   DB 0 cleared, home:{symbol}. Shard DB cleared, lease, home:{symbol}, last of orders:{symbol}
-- Writes  Shard DB orders:{symbol}
--
-- Returns {'OK', ticks appended}
--         {'LEASE'}, {'UNCLEARED', db} or {'HOME', symbol}   nothing is written
--
-- Atomic, so that only who leads appends, and only where nothing has come behind what it has applied: an input
-- that came does what is due itself, and a Tick that has not been applied yet keeps the next one away. A symbol
-- in which nothing is due yet by this server's clock, whatever the engine's says, is passed over.
-- All checks come before the first write. Limits: the symbols of one shard; seq < 10^14.

local call, match, format = redis.call, string.match, string.format
local head, symbols = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
local time = call('TIME')
local now = time[1] .. format('%06d', time[2])

if not is_cleared() then
  return {'UNCLEARED', 0}
end
for s = 1, #symbols, 4 do
  if call('HGET', 'home:' .. symbols[s], 'incarnation') ~= symbols[s + 1] then
    return {'HOME', symbols[s]}
  end
end
call('SELECT', head[1])

local function refusal()
  local lease = call('HMGET', 'lease', 'owner', 'epoch')
  if lease[1] ~= head[2] or tonumber(lease[2]) ~= head[3] then
    return {'LEASE'}
  end
  if not is_cleared() then
    return {'UNCLEARED', head[1]}
  end
end

local answer = refusal()
local ticks = {}
for s = 1, answer and 0 or #symbols, 4 do
  local key = 'orders:' .. symbols[s]
  local last = call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if not last or call('GET', 'home:' .. symbols[s]) ~= symbols[s + 1] then
    answer = {'HOME', symbols[s]}
    break
  end
  local stamp = tonumber(last[2][4]) > tonumber(now) and last[2][4] or now
  if tonumber(match(last[1], '^(%d+)')) == symbols[s + 2] and tonumber(stamp) >= symbols[s + 3] then
    ticks[#ticks + 1] = {key, format('%d-0', symbols[s + 2] + 1), stamp}
  end
end
if not answer then
  for _, tick in ipairs(ticks) do
    call('XADD', tick[1], tick[2], 'c', ARGV[3], 't', tick[3])
  end
  answer = {'OK', #ticks}
end
call('SELECT', 0)
return answer
