-- Store what market data keeps of some symbols, together with its positions. Runs in database 0.
--
-- KEYS  none (one server)
-- ARGV  1 msgpack, flat, four per symbol: name, the lowest and the highest position that may stand
--         now, the new position
--       2 msgpack, flat, one per command: how many of the following arguments it has
--       3… the arguments of the commands, one after the other: SET, ZADD and ZREMRANGE… of md: keys
-- Reads   position:marketdata
-- Writes  position:marketdata, and md:{symbol}:… by the commands
--
-- Returns {'OK'}
--         {'MOVED', symbol, position}    nothing is written: somebody else writes this market data
--
-- A range, because after lost replies the caller does not know which of its calls was the last one:
-- from the last position that was acknowledged to the last one sent. So calling again does no harm.
-- While nothing is lost, both are the same. Atomic, so that state, candles and
-- position never disagree, whoever is killed when. Limits: 16 symbols (callers cut), some 20 commands
-- each, at most 9 arguments per command.

local moves, counts = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])

for m = 1, #moves, 4 do
  local now = tonumber(redis.call('HGET', 'position:marketdata', moves[m])) or 0
  if now < moves[m + 1] or now > moves[m + 2] then
    return {'MOVED', moves[m], now}
  end
end
local first = 3
for c = 1, #counts do
  redis.call(unpack(ARGV, first, first + counts[c] - 1))
  first = first + counts[c]
end
for m = 1, #moves, 4 do
  redis.call('HSET', 'position:marketdata', moves[m], string.format('%d', moves[m + 3]))
end
return {'OK'}
