-- Change the trading phase of a symbol: append a SetPhase to its commands, once.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 symbol, 2 shard db, 3 incarnation, 4 the encoded SetPhase
--       5 a name of the request, made once: the same request again is known by it; '' = scheduled
--       6 when it is scheduled for, in µs since 1970 (0 = not scheduled)
--       7 seconds for which the name of a request is known
--       8 run id of the server
-- Reads   DB 0 cleared, home:{symbol}. Shard DB cleared, home:{symbol}, last of orders:{symbol}
-- Reads and writes  Shard DB orders:{symbol}, phase:{symbol}, phase:{symbol}:{name}
--
-- Returns {'OK', seq, last}              it is the command seq of the symbol, now or since an earlier call; last is
--                                        the newest change, above seq if somebody made another one since
--         {'DONE'}                       this change of the schedule, or a later one, was made before
--         {'UNCLEARED', db} or {'HOME'}  nothing is written; what never was cleared counts as cleared
--
-- Atomic, so that of several processes with the same schedule one makes each change, and once. Every request by
-- name is known again, whatever came after it: repeated after a lost reply it undoes nothing newer. So it is
-- for longer than anybody repeats one (PHASE_REQUEST_KEPT_S); operators' requests are few.
-- All checks come before the first write, which Redis refuses when out of memory.
-- Limits: seq < 10^14, where Lua begins to print with an exponent.

local call = redis.call
local symbol, db, request, scheduled = ARGV[1], ARGV[2], ARGV[5], tonumber(ARGV[6])
local key = 'phase:' .. symbol

local function answer(reply)
  call('SELECT', 0)
  return reply
end

if not is_cleared(true) then
  return {'UNCLEARED', 0}
end
if call('HGET', 'home:' .. symbol, 'incarnation') ~= ARGV[3] then
  return {'HOME'}
end
call('SELECT', db)
if not is_cleared(true) then
  return answer({'UNCLEARED', tonumber(db)})
end
local last = call('XREVRANGE', 'orders:' .. symbol, '+', '-', 'COUNT', 1)[1]
if not last or call('GET', 'home:' .. symbol) ~= ARGV[3] then
  return answer({'HOME'})
end
local before = call('HMGET', key, 'seq', 'scheduled')
local placed = request ~= '' and call('GET', key .. ':' .. request)
if placed then
  return answer({'OK', tonumber(placed), tonumber(before[1])})
end
if scheduled > 0 and scheduled <= (tonumber(before[2]) or 0) then
  return answer({'DONE'})
end

local time = call('TIME')
local now = time[1] .. string.format('%06d', time[2])
local stamp = tonumber(last[2][4]) > tonumber(now) and last[2][4] or now
local seq = tonumber(string.match(last[1], '^(%d+)')) + 1
call('XADD', 'orders:' .. symbol, string.format('%d-0', seq), 'c', ARGV[4], 't', stamp)
call('HSET', key, 'seq', seq)
if scheduled > 0 then
  call('HSET', key, 'scheduled', ARGV[6])
else
  call('SET', key .. ':' .. request, seq, 'EX', ARGV[7])
end
return answer({'OK', seq, seq})
